// Line charts as SVG: up to five minutes, one point a second. What is not known is a gap, not a zero.

import { drawn } from "./format.js";

/** What a chart may span, and where it says the time: seconds. */
const SPANS = [[60, 15], [120, 30], [300, 60]];
const [RIGHT, TOP, BOTTOM] = [4, 8, 20];
const LABEL_GAP = 7;
const LEVELS = 4;

/** `series`: [{class, key, area}]; `label`: a value as its axis says it; `marks`: times at which something went. */
export function drawChart(svg, points, series, label, marks) {
  const { width, height } = svg.getBoundingClientRect();
  if (width === 0) return;
  const end = points.length ? points.at(-1)[0] : 0;
  const lasted = points.length ? (end - points[0][0]) / 1e6 : 0;
  const [span, step_s] = SPANS.find(([seconds]) => seconds >= lasted) ?? SPANS.at(-1);
  const values = points.flatMap((point) => series.map(({ key }) => point[key] ?? 0));
  const top = nice(Math.max(...values, 0));
  const labels = Array.from({ length: LEVELS + 1 }, (_, step) => label((top * step) / LEVELS));
  const left = LABEL_GAP + Math.ceil(widest(svg, labels));
  const x = (us) => left + (width - left - RIGHT) * (1 - (end - us) / 1e6 / span);
  const y = (value) => height - BOTTOM - (height - TOP - BOTTOM) * (value / top);
  const parts = [];
  labels.forEach((text, step) => {
    const level = Math.round(y((top * step) / LEVELS)) + 0.5;
    parts.push(drawn("line", { class: "grid", x1: left, x2: width - RIGHT, y1: level, y2: level }));
    parts.push(drawn("text", { class: "axis", x: left - LABEL_GAP, y: level + 4, "text-anchor": "end" }, text));
  });
  for (let ago = 0; ago < span; ago += step_s) {
    const anchor = ago === 0 ? "end" : "middle";
    const text = ago === 0 ? "now" : ago % 60 === 0 ? `−${ago / 60} min` : `−${ago} s`;
    parts.push(drawn("text", { class: "axis", x: x(end - ago * 1e6), y: height - 5, "text-anchor": anchor }, text));
  }
  for (const us of marks) {
    if (us < end - span * 1e6 || us > end) continue;
    parts.push(drawn("line", { class: "mark", x1: x(us), x2: x(us), y1: TOP, y2: height - BOTTOM }));
  }
  for (const { key, kind, area } of series) {
    for (const run of runs(points.filter(([us]) => us >= end - span * 1e6), key)) {
      const path = run.map(([us, value]) => `${x(us).toFixed(1)},${y(value).toFixed(1)}`).join("L");
      const ends = `${x(run.at(-1)[0]).toFixed(1)},${y(0)}L${x(run[0][0]).toFixed(1)},${y(0)}`;
      if (area) parts.push(drawn("path", { class: "area", d: `M${path}L${ends}Z` }));
      parts.push(drawn("path", { class: `line ${kind}`, d: `M${path}` }));
    }
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
}

/** The width of the widest of these labels, as this chart's style draws them. */
function widest(svg, labels) {
  const probe = drawn("text", { class: "axis" });
  svg.append(probe);
  const widths = labels.map((text) => {
    probe.textContent = text;
    return probe.getComputedTextLength();
  });
  probe.remove();
  return Math.max(...widths);
}

function runs(points, key) {
  const found = [];
  let open = null;
  for (const point of points) {
    if (point[key] === null) {
      open = null;
    } else if (open) {
      open.push([point[0], point[key]]);
    } else {
      open = [[point[0], point[key]]];
      found.push(open);
    }
  }
  return found;
}

/** The next number up that four lines divide well. */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 8, 10].find((step) => step * power >= value * 1.05) * power || 20 * power;
}
