// The stream in, the page out. Each event is all that is new; the first of a connection is everything.

import { drawChart } from "./charts.js";
import { byId, count, figure, milliseconds, rate } from "./format.js";
import { drawRing } from "./ring.js";
import { addEvents, drawProducts, drawReplicas } from "./tables.js";

const POINTS_MAX = 300;
const EVENTS_MAX = 200;
const STALE_AFTER_MS = 3000;
const AGAIN_MS = 2000;
const [, MESSAGES, P50, P99, TURNS, ROTATION] = [0, 1, 2, 3, 4, 5];
const HEALTH = { healthy: "good", degraded: "warn", down: "bad", unreachable: "bad", unknown: "wait" };

let points = [];
let events = [];
let state = null;
let heard = 0;

function take(document_) {
  if (document_.first) {
    [points, events] = [[], []];
    byId("events").replaceChildren();
  }
  points = [...points, ...document_.points].slice(-POINTS_MAX);
  events = [...events, ...document_.events].slice(-EVENTS_MAX);
  state = document_;
  heard = performance.now();
  connection("live", "good");
  drawState();
  if (document_.points.length) drawCharts();
  addEvents(byId("events"), byId("no-events"), document_.events, EVENTS_MAX);
}

function say(node, text, level) {
  // aria-live reads every change aloud: only real ones may be made.
  if (node.textContent !== text) node.textContent = text;
  node.dataset.level = level;
}

function connection(text, level) {
  say(byId("connection"), text, level);
  document.body.classList.toggle("stale", level === "bad");
}

function drawState() {
  const cluster = state.cluster ?? {};
  const name = [cluster.name, cluster.id, cluster.durability && `durability ${cluster.durability}`];
  byId("cluster").textContent = name.filter(Boolean).join(" · ") || state.place;
  const counts = state.members ? ` ${state.serving}/${state.members.length}` : "";
  const away = state.health === "unreachable" ? "no replica answers" : state.health + counts;
  say(byId("health"), away, HEALTH[state.health]);
  document.title = state.health === "healthy" ? "Ringcast" : `Ringcast: ${state.health}`;
  if (state.health === "unknown") return;
  drawRing(byId("ring"), state);
  byId("members").textContent = state.ring.join(" → ") || "–";
  byId("holder").textContent = state.holder === null ? "–" : `replica ${state.holder}`;
  byId("total").textContent = state.next_offset === null ? "" : `${count(state.next_offset)} messages ever`;
  drawReplicas(byId("replicas"), state);
  drawProducts(byId("products-card"), byId("products"), byId("products-note"), state);
  if (state.latency_source) byId("latency-note").textContent = state.latency_source;
}

function drawCharts() {
  const last = points.at(-1) ?? [];
  figure(byId("throughput"), rate(last[MESSAGES]), "messages/s");
  figure(byId("p50"), milliseconds(last[P50]), "ms");
  figure(byId("p99"), milliseconds(last[P99]), "ms");
  const turns = last[TURNS] ? `${milliseconds(last[ROTATION])} ms, ${rate(last[TURNS])} turns/s` : "–";
  byId("rotation").textContent = turns;
  const marks = events.filter((event) => event.kind === "lost" && event.subject.startsWith("replica")).map((event) => event.at_us);
  drawChart(byId("throughput-chart"), points, [{ key: MESSAGES, kind: "first", area: true }], rate, marks);
  const both = [{ key: P99, kind: "second" }, { key: P50, kind: "first" }];
  drawChart(byId("latency-chart"), points, both, (ms) => `${Number(ms.toPrecision(3))} ms`, marks);
}

function listen() {
  const source = new EventSource("events");
  source.onmessage = (message) => take(JSON.parse(message.data));
  source.onerror = () => {
    connection("dashboard away, trying again", "bad");
    // EventSource tries again by itself after a lost connection, but not after an answer that was an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  };
}

setInterval(() => {
  if (heard && performance.now() - heard > STALE_AFTER_MS) {
    const seconds = Math.round((performance.now() - heard) / 1000);
    connection(seconds < 10 ? "no news" : "dashboard away, trying again", "bad");
  }
}, 1000);
addEventListener("resize", drawCharts);
listen();
