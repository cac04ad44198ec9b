// Numbers and times for the eye, and the few DOM calls that everything uses. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const byId = (id) => document.getElementById(id);

export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** 1,234 or 12.3 k: as many digits as one reads. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (value >= 1e5) return `${(value / 1e3).toFixed(0)} k`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return whole.format(value);
}

/** Three digits. */
export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export const time = (us) => clock.format(new Date(us / 1000));

/** An HTML element with attributes and children; `null` attributes are left out. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A number with its unit in smaller letters. */
export function figure(node, value, unit) {
  node.replaceChildren(value, value === "–" ? "" : element("span", { class: "unit" }, ` ${unit}`));
}
