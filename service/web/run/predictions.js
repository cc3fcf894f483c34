/** What the trained model of a job says about a few samples that are typed or pasted. */

import { below, find, send } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import { h, refill, table } from "../page/dom.js";
import { number, value } from "../page/format.js";
import { warnings } from "../page/parts.js";

const HINTS = {
  table: "One sample a line, its cells between commas or tabs; the first line may name the columns. Or a JSON list of rows.",
  images: "A JSON list of images, each as nested lists of numbers.",
  text: "One text a line. The model goes on with each.",
};
const MOST_NAMED = 20; // columns

/** @param {HTMLElement} host @param {any} job @param {AbortSignal} signal */
export async function drawPredictions(host, job, signal) {
  const dataset = await find(below("/v1/datasets", job.spec.dataset.split("@")[0]), {}, signal).catch(() => null);
  if (signal.aborted) return;
  const kind = dataset?.kind in HINTS ? dataset.kind : "table";
  const columns = (dataset?.columns ?? []).map(({ name }) => name);
  const more = columns.length > MOST_NAMED ? ` and ${columns.length - MOST_NAMED} more` : "";
  const samples = h("textarea", { id: "samples", rows: 6, class: "code", spellcheck: "false", required: true, "aria-describedby": "samples-about samples-told" });
  const length = h("input", { id: "length", type: "number", class: "narrow", min: 1, max: 1000, value: 100 });
  const told = h("div", { id: "samples-told", role: "alert" });
  const button = h("button", { class: "primary" }, "Predict");
  const body = () => ({ inputs: kind === "text" ? samples.value.split("\n").filter(Boolean) : read(samples.value, columns), ...(kind === "text" && { length: Number(length.value) }) });
  const path = below("/v1/jobs", job.id, "predictions");
  const ask = async (event) => {
    event.preventDefault();
    button.disabled = true;
    refill(told, h("p", { class: "muted" }, "A process of its own answers; it takes some seconds to begin …"));
    try {
      refill(told, answers(await send(path, { body: body(), signal })));
    } catch (error) {
      if (!signal.aborted) refill(told, error.errors?.length ? warnings(error.errors.map((each) => ({ ...each, param: placed(each.param) }))) : h("p", { class: "bad" }, error.message));
    } finally {
      button.disabled = false;
    }
  };
  refill(host, h("form", { class: "stack", submit: ask },
    h("label", { for: "samples" }, h("b", {}, "Samples")), samples,
    h("p", { class: "muted about", id: "samples-about" }, HINTS[kind], kind === "table" && columns.length ? ` The columns are ${columns.slice(0, MOST_NAMED).join(", ")}${more}.` : ""),
    kind === "text" ? h("label", { class: "field" }, h("span", {}, "bytes to add to each"), length) : null,
    h("div", { class: "row" }, button, curlButton(() => [{ path, method: "POST", body: body() }])), told));
}

/**
 * JSON, or lines of cells: as lists, or as objects where the first line names columns.
 * @param {string} text @param {string[]} columns of the data set
 */
function read(text, columns) {
  if (/^\s*[[{]/.test(text)) return readJson(text);
  const rows = text.split("\n").filter((line) => line.trim()).map(cells);
  const named = rows[0]?.some((cell) => columns.includes(cell));
  const samples = rows.slice(named ? 1 : 0).map((row) => row.map((cell) => (cell === "" ? null : Number.isFinite(Number(cell)) ? Number(cell) : cell)));
  return named ? samples.map((row) => Object.fromEntries(row.map((cell, place) => [rows[0][place] ?? `cell ${place + 1}`, cell]))) : samples;
}

/** A list of samples, a single one, or the body of a request. @param {string} text */
function readJson(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is no JSON: ${error.message}`);
  }
  const inputs = found.inputs ?? found;
  return Array.isArray(inputs) && typeof inputs[0] === "object" ? inputs : [inputs];
}

/** The cells of a line; what stands in quotes may hold commas. @param {string} line */
function cells(line) {
  if (line.includes("\t")) return line.split("\t").map((cell) => cell.trim());
  return [...`${line},`.matchAll(/\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*,/g)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain);
}

/** `inputs.1.rooms` as people count. @param {string} param */
function placed(param) {
  const [, sample, field] = /^inputs\.(\d+)(?:\.(.*))?$/.exec(param) ?? [];
  return sample === undefined ? param : `sample ${Number(sample) + 1}${field ? `, ${field}` : ""}`;
}

/** @param {{ step: number, data: any[] }} found */
function answers({ step, data }) {
  const names = Object.keys(data[0]).filter((name) => !Array.isArray(data[0][name]) && typeof data[0][name] !== "object" && !(name === "value" && "class" in data[0]));
  const cell = (name, each) => (name === "probability" ? `${number(100 * each)} %` : name === "continuation" ? h("code", { class: "words" }, each) : value(each));
  return [h("p", { class: "muted" }, `By the weights of step ${number(step)}:`),
    table("Predictions", ["sample", ...names], data.map((each, place) => [place + 1, ...names.map((name) => cell(name, each[name]))]))];
}
