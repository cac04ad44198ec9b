// Replicas, the Raft group and the events, as rows.

import { count, element, time } from "./format.js";

const unit = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;

export function levelOf(replica) {
  if (replica.error) return "bad";
  return replica.in_quorum && replica.alarms.length === 0 ? "good" : "warn";
}

export function drawReplicas(body, state) {
  body.replaceChildren(
    ...state.replicas.map((one) => {
      const level = levelOf(one);
      const tag = one.id === state.holder ? element("span", { class: "tag" }, "token") : null;
      const why = [one.error, ...one.alarms, one.suspects.length ? `suspects ${one.suspects.join(", ")}` : null];
      const rest = one.error
        ? ["–", "–", "–", "–", "–"]
        : [one.view, count(one.next_offset), count(one.committed), unit(one.lag, "slot", "slots"), count(one.clients)];
      return row(one, level, tag, one.error ? "lost" : one.state, why, rest, 1);
    }),
  );
}

export function drawProducts(card, body, note, state) {
  card.hidden = state.products === null;
  if (card.hidden) return;
  const leads = state.products_leader;
  note.textContent = leads === null || leads === undefined ? "Raft, no leader answers" : `Raft, replica ${leads} leads`;
  body.replaceChildren(
    ...state.products.map((one) => {
      const level = one.error ? "bad" : one.alarms.length || one.leader === null ? "warn" : "good";
      const rest = one.error
        ? ["–", "–", "–", "–"]
        : [count(one.term), count(one.commit), unit(one.lag, "entry", "entries"), count(one.items)];
      return row(one, level, null, one.error ? "lost" : one.role, [one.error, ...one.alarms], rest, 0);
    }),
  );
}

function row(one, level, tag, state, why, rest, texts) {
  const reasons = why.filter(Boolean).map((text) => element("small", {}, text));
  return element(
    "tr",
    { "data-replica": one.id, "data-level": level },
    element("th", { scope: "row" }, element("span", { class: "dot", "data-level": level }), String(one.id), tag),
    element("td", {}, state, ...reasons),
    ...rest.map((text, place) => element("td", { class: place < texts ? null : "number" }, text)),
  );
}

/** The newest is on top. What was read stays where it is: events are only added, and the oldest go. */
export function addEvents(list, none, added, shown) {
  list.prepend(
    ...added.toReversed().map((event) =>
      element(
        "li",
        { "data-level": event.level, "data-kind": event.kind },
        element("time", { datetime: new Date(event.at_us / 1000).toISOString() }, time(event.at_us)),
        element("p", {}, element("b", {}, event.subject), ` ${event.text}`),
      ),
    ),
  );
  while (list.childElementCount > shown) list.lastElementChild.remove();
  none.hidden = list.childElementCount > 0;
}
