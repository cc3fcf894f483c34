/** JSON Schema as fields: what kind of input each one is, with its default, bounds and meaning. */

import { number } from "../page/format.js";

/**
 * @typedef {object} Field
 * @property {string} path dotted
 * @property {string} name
 * @property {"number" | "integer" | "text" | "choice" | "flag" | "list" | "map" | "group" | "variants"} kind
 * @property {string} [about]
 * @property {any} [initial] the default
 * @property {boolean} required
 * @property {boolean} [nullable] of a group: may be left out as a whole
 * @property {string[]} [options] of a choice
 * @property {string[]} [words] that may stand in place of a number
 * @property {string} [bounds]
 * @property {Field[]} [fields] of a group
 * @property {Record<string, Field[]>} [variants] by the value of `type`
 */

const TELLING = 1e9; // a bound beyond it says only that numbers end somewhere
const BOUNDS = [["minimum", "at least"], ["exclusiveMinimum", "more than"], ["maximum", "at most"], ["exclusiveMaximum", "less than"]];

/** The fields of an object. @param {any} schema @param {any} [root] where references point to @param {string} [prefix] @returns {Field[]} */
export function fields(schema, root = schema, prefix = "") {
  const whole = resolved(schema, root);
  return Object.entries(whole.properties ?? {}).map(([name, raw]) => field(name, raw, root, prefix, (whole.required ?? []).includes(name)));
}

/** @returns {Field} */
function field(name, raw, root, prefix, required) {
  const schema = resolved(raw, root);
  const path = prefix + name;
  const base = { path, name, about: schema.description, initial: schema.default, required };
  const variants = (schema.oneOf ?? schema.anyOf ?? []).map((each) => resolved(each, root));
  const real = variants.filter((each) => each.type !== "null");
  if (schema.discriminator || (real.length > 1 && real.every((each) => each.properties?.type))) {
    return { ...base, kind: "variants", variants: Object.fromEntries(real.map((each) => [each.properties.type.const, fields(each, root, `${path}.`).filter((inner) => inner.name !== "type")])) };
  }
  const objects = [schema, ...real].filter((each) => each.properties);
  if (objects.length) return { ...base, kind: "group", nullable: variants.length > real.length, fields: fields(objects[0], root, `${path}.`), about: schema.description ?? objects[0].description };
  return { ...base, ...simple(real.length ? real : [schema]) };
}

/** @param {any[]} choices schemas of which one must fit */
function simple(choices) {
  const words = choices.filter((each) => each.const !== undefined).map((each) => String(each.const));
  const numeric = choices.find((each) => each.type === "number") ?? choices.find((each) => each.type === "integer");
  if (numeric) return { kind: words.length ? "text" : numeric.type, words, bounds: choices.map(bounds).filter(Boolean)[0] };
  const [first] = choices;
  const options = choices.flatMap((each) => each.enum ?? []);
  if (options.length || words.length) return { kind: "choice", options: [...options, ...words] };
  if (first.type === "boolean") return { kind: "flag" };
  if (first.type === "array") return { kind: "list", words: [first.items?.type ?? ""] };
  return { kind: first.type === "object" ? "map" : "text", words: [] };
}

/** @param {any} schema */
function bounds(schema) {
  return BOUNDS.filter(([key]) => Math.abs(schema[key]) < TELLING).map(([key, words]) => `${words} ${number(schema[key])}`).join(", ");
}

/** @param {any} schema @param {any} root */
function resolved(schema, root) {
  if (!schema?.$ref) return schema ?? {};
  const target = schema.$ref.replace(/^#\//, "").split("/").reduce((here, part) => here?.[part], root);
  return { ...resolved(target, root), ...Object.fromEntries(Object.entries(schema).filter(([key]) => key !== "$ref")) };
}
