/** Elements, made without markup: whatever a user wrote becomes a text node. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @typedef {Node | string | number | null | undefined | false} Child
 * @typedef {Record<string, any>} Attributes
 */

/**
 * An HTML element. Attributes that are functions listen to the event of their name, those that are null or false are left out.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

/** An element of a drawing. @param {string} tag @param {Attributes} [attributes] @param {...(Child | Child[])} children */
export function svg(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS(SVG, tag), attributes, children);
}

/** @param {Element} element @param {Attributes} attributes @param {(Child | Child[])[]} children */
function furnished(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "value" || name === "checked" || name === "selected" || name === "indeterminate") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  fill(element, ...children);
  return element;
}

/** Puts children behind those that are there. @param {Element} element @param {...(Child | Child[])} children */
export function fill(element, ...children) {
  for (const child of children.flat(2)) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Puts children in place of those that are there. @param {Element} element @param {...(Child | Child[])} children */
export function refill(element, ...children) {
  element.replaceChildren();
  return fill(element, ...children);
}

/** The same, and what had the focus has it again if something of its name is still there. @param {Element} element @param {...(Child | Child[])} children */
export function redraw(element, ...children) {
  const focused = element.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  refill(element, ...children);
  if (focused) [...element.querySelectorAll("a, button, input")].find((each) => nameOf(each) === focused)?.focus();
}

/** @param {Element} element */
function nameOf(element) {
  return element.getAttribute("aria-label") ?? element.textContent;
}

/** Whether somebody writes something here, which a new drawing would take away. @param {Element} element */
export function isTypedInto(element) {
  return element.contains(document.activeElement) && document.activeElement.tagName === "INPUT";
}

/** A list of words and what they stand for. @param {[Child, Child | Child[]][]} pairs */
export function definitions(pairs, kind = "facts") {
  return h("dl", { class: kind }, pairs.map(([word, meaning]) => h("div", {}, h("dt", {}, word), h("dd", {}, meaning))));
}

const NUMBER = /^(-?[\d.\u202f]+(e-?\d+)?|NaN|-?Infinity)$/;
const NOTHING = ["", "–"];

/**
 * A plain table with a head. Columns of numbers stand to the right.
 * @param {string} caption what it is, for those who cannot see it
 * @param {Child[]} heads one that shows nothing still has a name
 * @param {Child[][]} rows
 * @param {(place: number) => Attributes} [attributes] of each row
 */
export function table(caption, heads, rows, attributes = () => ({})) {
  const kinds = heads.map((_, place) => (isNumeric(rows.map((row) => row[place])) ? "number" : null));
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head, place) => h("th", { scope: "col", class: kinds[place] }, head || h("span", { class: "hidden" }, "more"))))),
      h("tbody", {}, rows.map((row, place) => h("tr", attributes(place), row.map((cell, column) => h("td", { class: kinds[column] }, cell)))))));
}

/** @param {(Child | Child[])[]} cells */
function isNumeric(cells) {
  const told = cells.filter((cell) => !NOTHING.includes(cell));
  return told.length > 0 && told.every((cell) => ["string", "number"].includes(typeof cell) && NUMBER.test(String(cell)));
}

/** A select with the chosen value. @param {string} label @param {(string | [string, string])[]} options */
export function choice(label, options, value, change, attributes = {}) {
  const made = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  return h("label", { class: "field" }, h("span", {}, label),
    h("select", { change: (event) => change(event.target.value), ...attributes },
      made.map(([key, text]) => h("option", { value: key, selected: key === value }, text))));
}
