// The ring: members in their order, and the token at whoever was seen to have it last. The token really goes round
// hundreds of times a second; here it moves as often as the replicas are asked.

import { drawn } from "./format.js";
import { levelOf } from "./tables.js";

const CENTER = 150;
const RADIUS = 98;
const MEMBER_RADIUS = 29;
const TOKEN_RADIUS = RADIUS - MEMBER_RADIUS - 13;

let shape = "";
let turned = 0;
let arm = null;
const nodes = new Map();

const degrees = (place, all) => (360 * place) / all;

function at(angle, radius) {
  const radians = ((angle - 90) * Math.PI) / 180;
  return [CENTER + radius * Math.cos(radians), CENTER + radius * Math.sin(radians)];
}

export function drawRing(svg, state) {
  const ids = ordered(state);
  if (ids.join() !== shape) build(svg, ids);
  for (const replica of state.replicas) {
    const node = nodes.get(replica.id);
    if (!node) continue;
    node.group.dataset.level = levelOf(replica);
    node.group.dataset.holds = replica.id === state.holder;
    node.state.textContent = replica.error ? "lost" : state.ring.includes(replica.id) ? "" : replica.state.split(":")[0];
  }
  const place = ids.indexOf(state.holder);
  arm.setAttribute("visibility", place < 0 ? "hidden" : "visible");
  if (place >= 0) {
    // Onward to the holder, never back: the token goes one way.
    const wanted = degrees(place, ids.length);
    turned += (((wanted - turned) % 360) + 360) % 360;
    arm.style.transform = `rotate(${turned}deg)`;
  }
  svg.querySelector(".large").textContent = state.view ?? "–";
  svg.setAttribute("aria-label", description(state));
}

// Those of the ring in its order, then those that are not in it: a lost one keeps a place in the picture.
function ordered(state) {
  return state.replicas.map((replica) => replica.id).sort((a, b) => a - b);
}

function description(state) {
  const away = state.replicas.filter((replica) => replica.error).map((replica) => replica.id);
  const lost = away.length ? `; lost: ${away.join(", ")}` : "";
  return `view ${state.view ?? "none"}, ring ${state.ring.join(" ")}, token at ${state.holder ?? "nobody"}${lost}`;
}

function build(svg, ids) {
  shape = ids.join();
  nodes.clear();
  const token = drawn("circle", { class: "token", cx: CENTER, cy: CENTER - TOKEN_RADIUS, r: 9 });
  arm = drawn("g", { class: "token-arm" }, token);
  turned = 0;
  const members = ids.map((id, place) => {
    const [x, y] = at(degrees(place, ids.length), RADIUS);
    const state = drawn("text", { class: "state", x, y: y + MEMBER_RADIUS + 13 });
    const circle = drawn("circle", { cx: x, cy: y, r: MEMBER_RADIUS });
    const group = drawn("g", { class: "member" }, circle, drawn("text", { x, y }, String(id)), state);
    nodes.set(id, { group, state });
    return group;
  });
  svg.replaceChildren(
    drawn("circle", { class: "track", cx: CENTER, cy: CENTER, r: RADIUS }),
    arm,
    ...members,
    drawn("text", { class: "center", x: CENTER, y: CENTER - 18 }, "view"),
    drawn("text", { class: "center large", x: CENTER, y: CENTER + 14 }),
  );
}
