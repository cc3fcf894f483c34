/** Data sets: what there is, what is in them, and a way to bring more. */

import { below, get, send } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import * as session from "../api/session.js";
import { definitions, h, refill, table } from "../page/dom.js";
import { ago, bytes, grouped, number, value } from "../page/format.js";
import { confirmed, notice, tell } from "../page/notices.js";
import { panel, warnings } from "../page/parts.js";
import { href, remember } from "../page/route.js";

const TYPES = { csv: "text/csv", parquet: "application/vnd.apache.parquet", npz: "application/x-npz", txt: "text/plain" };
const FACTS = { format: value, task: value, rows: number, target: value, bytes, sha256: value, owner: value, created_at: ago };

/** @type {import("../main.js").View} */
export async function show(root, route, signal) {
  const [list, about] = [h("div"), h("div")];
  const open = async (name) => {
    remember({ name });
    refill(about, drawDataset(await get(below("/v1/datasets", name), {}, signal), reload));
  };
  const reload = async () => refill(list, drawList((await get("/v1/datasets", { limit: 200 }, signal)).data, (name) => open(name).catch(tell)));
  refill(root, h("div", { class: "row" }, h("h1", {}, "Data"), h("span", { class: "space" }), curlButton(() => [{ path: "/v1/datasets" }])),
    panel("Data sets", list), about, session.maySubmit() ? upload(async (name) => { await reload(); await open(name); }) : null);
  await reload();
  const name = route.query.get("name");
  if (name) await open(name);
}

function drawList(datasets, open) {
  return table("Data sets", ["name", "task", "rows", "columns", "size", "version", "made", ""], datasets.map((each) => [
    h("button", { class: "link", click: () => open(each.name) }, each.name), each.task ?? "–", grouped(each.rows ?? 0), grouped(each.features ?? 0), bytes(each.bytes), each.version, ago(each.created_at),
    session.maySubmit() ? h("a", { href: href("submit", { dataset: each.name }) }, "train on it") : "",
  ]));
}

function drawDataset(dataset, reload) {
  const facts = Object.entries(FACTS).filter(([name]) => dataset[name] !== null && dataset[name] !== undefined).map(([name, write]) => [name.replace("_at", ""), write(dataset[name])]);
  const columns = dataset.columns ?? [];
  const heads = [...new Set(columns.slice(0, 200).flatMap((column) => Object.keys(column)))];
  const remove = async () => {
    if (!(await confirmed(`Delete the data set “${dataset.name}” with all its versions?`, "Delete it"))) return;
    await send(below("/v1/datasets", dataset.name), { method: "DELETE" }).then(() => { notice("It is deleted."); return reload(); }).catch(tell);
  };
  return panel(dataset.name, h("p", {}, dataset.description ?? ""), definitions(facts), warnings(dataset.warnings),
    dataset.classes ? h("p", {}, h("b", {}, "classes "), dataset.classes.slice(0, 40).map((each) => (typeof each === "object" ? `${value(each.name ?? each.label ?? each.value)} (${grouped(each.count ?? each.rows ?? 0)})` : value(each))).join(", ")) : null,
    columns.length ? table("Columns", heads, columns.slice(0, 200).map((column) => heads.map((head) => value(column[head])))) : null,
    columns.length > 200 ? h("p", { class: "muted" }, `and ${grouped(columns.length - 200)} more columns`) : null,
    dataset.owner && session.may(dataset.owner) ? h("div", { class: "row end" }, h("button", { class: "danger", click: remove }, "Delete")) : null);
}

/** @param {(name: string) => Promise<void>} done */
function upload(done) {
  const file = h("input", { type: "file", id: "upload-file", required: true, accept: Object.keys(TYPES).map((end) => `.${end}`).join(","), change: () => { name.value ||= suggested(file.files[0]?.name ?? ""); } });
  const name = h("input", { id: "upload-name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}", title: "letters, digits, _ . -" });
  const target = h("input", { id: "upload-target", placeholder: "column to predict" });
  const told = h("div", { role: "alert" });
  const button = h("button", { class: "primary" }, "Upload");
  const submit = async (event) => {
    event.preventDefault();
    const chosen = file.files[0];
    button.disabled = true;
    refill(told, `Sending ${bytes(chosen.size)} …`);
    try {
      const type = TYPES[chosen.name.split(".").pop().toLowerCase()] ?? "text/plain";
      const made = await send(below("/v1/datasets", name.value), { method: "PUT", query: { target: target.value }, body: chosen, type });
      refill(told, `Version ${made.version} is there.`);
      await done(name.value);
    } catch (error) {
      refill(told, h("p", { class: "bad" }, error.message), warnings(error.errors));
    } finally {
      button.disabled = false;
    }
  };
  return panel("Upload", h("form", { class: "row upload", submit },
    h("div", { class: "input" }, h("label", { for: "upload-file" }, "File: csv, parquet, npz or text"), file),
    h("div", { class: "input" }, h("label", { for: "upload-name" }, "Name"), name),
    h("div", { class: "input" }, h("label", { for: "upload-target" }, "Target"), target), button), told);
}

/** @param {string} file */
function suggested(file) {
  return file.replace(/\.[a-z]+$/i, "").replace(/[^A-Za-z0-9_.-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);
}
