/** A form made of fields: inputs with their meaning, and a spec that says only what was chosen. */

import { h, refill } from "../page/dom.js";
import { fields as fieldsOf } from "./schema.js";

/** @typedef {import("./schema.js").Field} Field */

const OPEN = ["hyperparameters", "model"]; // groups that are shown unfolded

export class Form {
  /**
   * @param {any} schema JSON Schema of an object @param {any} given a spec to begin with @param {() => void} changed
   * @param {Record<string, string[]>} suggestions values for text fields, by path
   */
  constructor(schema, given, changed, suggestions = {}) {
    this.fields = fieldsOf(schema);
    this.suggestions = suggestions;
    this.changed = changed;
    /** @type {Map<string, { field: Field, input: any, told: HTMLElement, before: string }>} before: the default as text */
    this.inputs = new Map();
    /** @type {Map<string, any>} checkboxes of the groups that may be left out */
    this.switches = new Map();
    const plain = this.fields.filter(({ kind }) => kind !== "group" && kind !== "variants");
    const groups = this.fields.filter((field) => !plain.includes(field));
    this.element = h("form", { class: "spec", submit: (event) => event.preventDefault(), input: changed, change: changed },
      this.fieldset("Job", plain, given, true), groups.map((group) => this.group(group, given?.[group.name])));
  }

  /** @param {string} title @param {Field[]} fields @param {any} given @param {boolean} open @param {string} [about] */
  fieldset(title, fields, given, open, about) {
    return h("details", { open, class: "panel" }, h("summary", {}, h("h2", {}, title.replaceAll("_", " ")), about ? h("span", { class: "muted" }, about) : null),
      h("div", { class: "fields" }, fields.map((field) => this.one(field, given?.[field.name]))));
  }

  /** @param {Field} group @param {any} given */
  group(group, given) {
    const open = OPEN.includes(group.name);
    if (group.nullable) return this.switched(group, given);
    if (group.kind === "group") return this.fieldset(group.name, group.fields, given, open, group.about);
    const types = Object.keys(group.variants);
    const first = given?.type ?? group.initial?.type ?? "";
    const host = h("div", { class: "fields" });
    const fill = (type, known) => {
      for (const path of [...this.inputs.keys()]) if (path.startsWith(`${group.path}.`) && path !== `${group.path}.type`) this.inputs.delete(path);
      refill(host, (group.variants[type] ?? []).map((field) => this.one(field, known?.[field.name])));
    };
    const type = this.one({ path: `${group.path}.type`, name: "type", kind: "choice", options: types, initial: group.initial?.type, required: group.initial !== undefined }, first || undefined);
    type.querySelector("select").addEventListener("change", (event) => fill(event.target.value));
    fill(first, given);
    return h("details", { open, class: "panel" }, h("summary", {}, h("h2", {}, group.name)), h("div", { class: "fields" }, type), host);
  }

  /** A group that says nothing unless it is switched on. @param {Field} group @param {any} given */
  switched(group, given) {
    const fields = h("div", { class: "fields", hidden: !given }, group.fields.map((field) => this.one(field, given?.[field.name])));
    const box = h("input", { type: "checkbox", checked: Boolean(given), change: () => { fields.hidden = !box.checked; } });
    this.switches.set(group.path, box);
    const title = group.name.replaceAll("_", " ");
    return h("details", { open: Boolean(given), class: "panel" }, h("summary", {}, h("h2", {}, title), h("span", { class: "muted" }, group.about)),
      h("p", {}, h("label", { class: "check" }, box, ` with ${title}`)), fields);
  }

  /** Whether a field belongs to a group that is switched off. @param {string} path */
  isOff(path) {
    return [...this.switches].some(([group, box]) => !box.checked && path.startsWith(`${group}.`));
  }

  /** Required fields that say nothing yet. */
  missing() {
    return [...this.inputs.values()].filter(({ field, input }) => field.required && !this.isOff(field.path) && !input.value);
  }

  /** @param {Field} field @param {any} given */
  one(field, given) {
    if (field.kind === "group") return h("fieldset", { class: "inner" }, h("legend", {}, field.name.replaceAll("_", " ")), h("div", { class: "fields" }, field.fields.map((each) => this.one(each, given?.[each.name]))));
    const id = `field-${field.path.replaceAll(".", "-")}`;
    const input = this.input(field, given === undefined ? field.initial : given, id);
    const told = h("p", { class: "bad", id: `${id}-told` });
    this.inputs.set(field.path, { field, input, told, before: write(field, field.initial) });
    const about = [field.about, field.bounds].filter(Boolean).join("; ");
    return h("div", { class: "input" }, h("label", { for: id, title: about || null }, field.name.replaceAll("_", " "), field.required ? h("span", { class: "muted" }, " (required)") : null), input,
      this.suggestions[field.path] ? h("datalist", { id: `${id}-list` }, this.suggestions[field.path].map((each) => h("option", { value: each }))) : null, h("p", { class: "muted about", id: `${id}-about` }, about), told);
  }

  /** @param {Field} field @param {any} given @param {string} id */
  input(field, given, id) {
    const common = { id, "aria-describedby": `${id}-about ${id}-told`, required: field.required };
    if (field.options) {
      const empty = field.required && given ? [] : [""];
      return h("select", common, [...empty, ...field.options].map((each) => h("option", { value: each, selected: each === (given ?? "") }, each || (field.required ? "choose" : "as usual"))));
    }
    if (field.kind === "flag") return h("input", { ...common, required: false, type: "checkbox", checked: Boolean(given) });
    if (field.kind === "map") return h("textarea", { ...common, rows: 2, placeholder: "key=value, one a line", value: write(field, given) });
    const numeric = field.kind === "number" || field.kind === "integer";
    const told = field.kind === "text" && field.words?.length ? `a number, or ${field.words.join(" or ")}` : null;
    return h("input", { ...common, type: "text", inputmode: numeric ? "decimal" : null, list: this.suggestions[field.path] ? `${id}-list` : null, spellcheck: "false", autocomplete: "off", placeholder: told, value: write(field, given) });
  }

  /** What was chosen: values that are the defaults are left out, for the service knows them. */
  spec() {
    const spec = {};
    for (const [path, box] of this.switches) if (box.checked) put(spec, path.split("."), {});
    for (const { field, input, before } of this.inputs.values()) {
      if (this.isOff(field.path)) continue;
      const chosen = text(field, input);
      if (chosen !== before || field.required) put(spec, field.path.split("."), read(field, chosen));
    }
    return spec;
  }

  /** A JSON merge patch (RFC 7396) from the spec that the form began with to what it says now. @param {any} before */
  patch(before) {
    const patch = {};
    for (const [path, box] of this.switches) {
      if (box.checked !== Boolean(at(before, path))) put(patch, path.split("."), box.checked ? {} : null);
    }
    for (const { field, input } of this.inputs.values()) {
      if (this.isOff(field.path)) continue;
      const now = read(field, text(field, input));
      const then = at(before, field.path) ?? (field.kind === "map" ? {} : field.kind === "flag" ? false : null);
      if (field.kind === "map") for (const key of Object.keys(then)) if (!(key in now)) now[key] = null;
      if (JSON.stringify(now) !== JSON.stringify(then)) put(patch, field.path.split("."), now);
    }
    for (const group of this.fields.filter(({ kind }) => kind === "variants")) {
      for (const name of Object.keys(before[group.name] ?? {})) if (!this.inputs.has(`${group.path}.${name}`)) put(patch, [group.name, name], null);
    }
    return patch;
  }

  /** Puts what is wrong beside its field; what has no field here is returned. @param {{ param: string, message: string, hint?: string }[]} errors */
  tell(errors) {
    for (const [path, { input, told }] of this.inputs) {
      const own = errors.filter(({ param }) => param === path || param.startsWith(`${path}.`));
      refill(told, own.map(({ message, hint }) => (hint ? `${message}: ${hint}` : message)).join("; "));
      input.setAttribute("aria-invalid", String(own.length > 0));
      if (own.length) for (let up = input.closest("details"); up; up = up.parentElement.closest("details")) up.open = true;
    }
    return errors.filter(({ param }) => ![...this.inputs.keys()].some((path) => param === path || param.startsWith(`${path}.`)));
  }
}

/** @param {Field} field @param {any} input */
function text(field, input) {
  return field.kind === "flag" ? String(input.checked) : input.value.trim();
}

/** @param {any} tree @param {string} path dotted */
function at(tree, path) {
  return path.split(".").reduce((here, name) => here?.[name], tree);
}

/** A value as text. @param {Field} field @param {any} value */
function write(field, value) {
  if (field.kind === "flag") return String(Boolean(value));
  if (value === null || value === undefined) return "";
  if (field.kind === "list") return value.join(", ");
  if (field.kind === "map") return Object.entries(value).map(([key, each]) => `${key}=${each}`).join("\n");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Text as a value; what cannot be read goes as it is to the service, which says what is wrong. @param {Field} field @param {string} text */
function read(field, text) {
  if (field.kind === "flag") return text === "true";
  if (field.kind === "map") return Object.fromEntries(text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => [line.split("=")[0].trim(), line.split("=").slice(1).join("=").trim()]));
  if (field.kind === "list") return text.split(/[\s,]+/).filter(Boolean).map((part) => (field.words?.[0] === "string" ? part : numeric(part)));
  if (text === "") return null;
  return field.kind === "number" || field.kind === "integer" || field.words?.length ? numeric(text) : text;
}

/** @param {string} text */
function numeric(text) {
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** @param {any} target @param {string[]} path @param {any} value */
function put(target, [name, ...rest], value) {
  if (!rest.length) target[name] = value;
  else put((target[name] ??= {}), rest, value);
}
