/** All runs in a table: sorted, filtered, searched, selected. The address holds all of it. */

import { get } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import * as session from "../api/session.js";
import { choice, h, refill } from "../page/dom.js";
import { ago, duration, grouped, number, short, value } from "../page/format.js";
import { Grid } from "../page/grid.js";
import * as keys from "../page/keys.js";
import { notice, tell } from "../page/notices.js";
import { badge, runLink } from "../page/parts.js";
import { settled } from "../page/polling.js";
import { go, href, remember } from "../page/route.js";

const PAGE = 200;
const MOST_SEARCHED = 10_000;
const MOST_COMPARED = 50;
const STATUSES = ["", "queued", "running", "paused", "succeeded", "failed", "cancelled"];
const FILTERS = ["project", "user", "task", "dataset", "tag.", "param."];
const FIXED = ["status", "user", "project", "created_at", "duration_seconds"];
const USUAL = ["status", "user", "created_at", "duration_seconds", "param.dataset", "param.hyperparameters.learning_rate", "param.hyperparameters.batch_size", "val_loss.best"];
const OWN = ["sort", "columns", "search", "selected", "focus"]; // of the address, and no filter

/** @type {import("../main.js").View} */
export function show(root, route, signal) {
  new Runs(root, route.query, signal).start();
}

class Runs {
  /** @param {HTMLElement} root @param {URLSearchParams} query @param {AbortSignal} signal */
  constructor(root, query, signal) {
    Object.assign(this, { root, signal });
    this.sort = query.get("sort") ?? "-created_at";
    this.search = query.get("search") ?? "";
    this.columns = query.get("columns")?.split(",").filter(Boolean) ?? USUAL;
    this.selected = new Set(query.get("selected")?.split(",").filter(Boolean));
    /** @type {[string, string][]} */
    this.filters = [...query].filter(([key]) => !OWN.includes(key));
    this.focused = query.get("focus") === "search";
    this.known = { metrics: new Set(["train_loss", "val_loss"]), parameters: new Set() };
    this.empty();
    this.grid = new Grid({ label: "Runs", end: () => this.more() });
    this.top = history.state?.top ?? 0; // where whoever comes back was
    this.chips = h("div", { class: "row chips" });
    this.count = h("span", { class: "muted", role: "status" });
    this.compareButton = h("button", { class: "primary", click: () => this.compare() });
    this.picker = h("div", { class: "columns" });
  }

  start() {
    const search = h("input", { type: "search", placeholder: "Search names, tags, values  ( / )", "aria-label": "Search runs", value: this.search, input: (event) => this.searchFor(event.target.value) });
    refill(this.root,
      h("div", { class: "row" }, h("h1", {}, "Runs"), this.count, h("span", { class: "space" }), this.compareButton, curlButton(() => [{ path: "/v1/runs", query: this.query() }])),
      h("div", { class: "row filters" }, search,
        choice("Status", STATUSES.map((each) => [each, each || "any"]), this.filter("status"), (chosen) => this.setFilter("status", chosen)),
        this.filterForm(),
        h("details", { class: "menu" }, h("summary", { class: "button" }, "Columns"), this.picker)),
      this.chips, this.grid.element);
    keys.on("/", () => search.focus(), this.signal);
    keys.on("c", () => this.compare(), this.signal);
    this.drawColumns();
    this.drawState();
    this.more();
    this.grid.element.addEventListener("scroll", settled(100, () => !this.signal.aborted && history.replaceState({ top: this.grid.element.scrollTop }, "")));
    if (this.focused) search.focus();
  }

  empty() {
    this.rows = [];
    this.after = null;
    this.ended = false;
    this.loading?.abort();
    this.loading = null;
  }

  reload() {
    this.empty();
    this.top = 0;
    this.grid.element.scrollTop = 0;
    this.drawRows();
    this.drawState();
    this.more();
  }

  query() {
    return { sort: this.sort, limit: PAGE, ...Object.fromEntries(this.filters) };
  }

  /** The next page, if there is one and none is on its way. While something is searched for, all pages. */
  async more() {
    if (this.loading || this.ended) return;
    const loading = new AbortController();
    this.loading = loading;
    const stop = () => loading.abort();
    this.signal.addEventListener("abort", stop);
    try {
      const found = await get("/v1/runs", { ...this.query(), after: this.after }, loading.signal);
      this.rows.push(...found.data);
      this.after = found.next_after;
      this.ended = !found.has_more;
      this.learn(found.data);
    } catch (error) {
      this.ended = true;
      if (!loading.signal.aborted) tell(error);
    } finally {
      this.signal.removeEventListener("abort", stop);
    }
    if (loading.signal.aborted) return;
    this.loading = null;
    this.drawRows();
    this.goBack();
    if (this.search && this.rows.length < MOST_SEARCHED) this.more();
  }

  /** To where one was before, which may be some pages of the list away. */
  goBack() {
    const { element } = this.grid;
    if (this.top) element.scrollTop = this.top;
    if (this.ended || element.scrollTop >= this.top) this.top = 0;
  }

  /** Names of metrics and parameters, for the choice of columns. */
  learn(rows) {
    const before = this.known.metrics.size + this.known.parameters.size;
    for (const { metrics, parameters } of rows) {
      for (const name of Object.keys(metrics)) this.known.metrics.add(name);
      for (const name of Object.keys(parameters)) this.known.parameters.add(name);
    }
    if (this.known.metrics.size + this.known.parameters.size > before) this.drawPicker();
  }

  searchFor(text) {
    this.search = text.trim();
    this.drawRows();
    if (this.search) this.more();
    this.note();
  }

  note = settled(300, () => !this.signal.aborted && this.drawState());

  matching() {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return this.rows;
    return this.rows.filter((run) => {
      run.text ??= [run.id, run.name, run.user, run.project, run.status, ...Object.entries(run.tags).flat(), ...Object.values(run.parameters).map(value)].join("\n").toLowerCase();
      return words.every((word) => run.text.includes(word));
    });
  }

  drawRows() {
    const rows = this.matching();
    this.grid.setRows(rows);
    refill(this.count, `${grouped(rows.length)}${this.ended ? "" : " or more"}${this.ended && !rows.length ? `: ${this.search || this.filters.length ? "no run matches" : "nothing has run yet"}` : ""}`,
      this.ended && !this.rows.length && !this.filters.length && session.maySubmit() ? [". ", h("a", { href: href("submit") }, "Submit a job")] : null);
  }

  drawState() {
    const filters = Object.fromEntries(this.filters);
    remember({ ...this.gone, ...filters, sort: this.sort === "-created_at" ? null : this.sort, search: this.search, selected: [...this.selected].join(","), columns: String(this.columns) === String(USUAL) ? null : this.columns.join(","), focus: null });
    this.gone = Object.fromEntries(Object.keys(filters).map((key) => [key, null]));
    refill(this.chips, this.filters.filter(([key]) => key !== "status").map(([key, wanted]) =>
      h("button", { class: "chip", click: () => this.setFilter(key, ""), "aria-label": `Remove the filter ${key}` }, `${key} = ${wanted} ×`)));
    const count = this.selected.size;
    this.compareButton.disabled = count < 2;
    refill(this.compareButton, count ? `Compare ${count}` : "Compare");
  }

  filter(key) {
    return this.filters.find(([name]) => name === key)?.[1] ?? "";
  }

  setFilter(key, wanted) {
    this.filters = this.filters.filter(([name]) => name !== key);
    if (wanted) this.filters.push([key, wanted]);
    this.reload();
  }

  filterForm() {
    const kind = h("select", { "aria-label": "Filter by" }, FILTERS.map((each) => h("option", { value: each }, each.endsWith(".") ? `${each}NAME` : each)));
    const text = h("input", { "aria-label": "Value of the filter", placeholder: "value", required: true, maxlength: 400 });
    kind.addEventListener("change", () => { text.placeholder = kind.value.endsWith(".") ? "NAME=value" : "value"; });
    const add = (event) => {
      event.preventDefault();
      const [name, ...rest] = kind.value.endsWith(".") ? text.value.split("=") : ["", text.value];
      if (!rest.length) return notice("Write it as NAME=value.", "bad");
      text.value = "";
      return this.setFilter(`${kind.value}${name.trim()}`, rest.join("=").trim());
    };
    return h("form", { class: "row joined", submit: add }, kind, text, h("button", {}, "Add filter"));
  }

  drawPicker() {
    const names = [...FIXED, ...[...this.known.metrics].sort().flatMap((name) => [`${name}.best`, `${name}.last`]), ...[...this.known.parameters].sort().map((name) => `param.${name}`)];
    refill(this.picker, names.map((name) => h("label", { class: "check" },
      h("input", { type: "checkbox", checked: this.columns.includes(name), change: (event) => this.toggleColumn(name, event.target.checked) }), ` ${name}`)));
  }

  toggleColumn(name, on) {
    this.columns = on ? [...this.columns, name] : this.columns.filter((each) => each !== name);
    this.drawColumns();
    this.drawState();
  }

  drawColumns() {
    const all = h("input", { type: "checkbox", "aria-label": "Select all that are shown", change: (event) => this.selectAll(event.target.checked) });
    this.grid.setColumns([
      { key: "select", head: all, width: 36, cell: (run) => this.checkbox(run) },
      { key: "name", head: "Name", width: 240, cell: (run) => runLink(run.id, run.name) },
      ...this.columns.map((name) => this.column(name)),
    ]);
    this.drawPicker();
  }

  column(name) {
    if (name === "status") return { key: name, head: "Status", width: 110, cell: (run) => badge(run.status) };
    if (name === "created_at") return { key: name, ...this.sortable("Created", name, "-created_at"), width: 96, cell: (run) => h("span", { title: run.created_at }, ago(run.created_at)) };
    if (name === "duration_seconds") return { key: name, head: "Duration", width: 96, number: true, cell: (run) => duration(run.duration_seconds) };
    if (name.startsWith("param.")) return { key: name, head: h("span", { title: name.slice(6) }, short(name)), width: 110, cell: (run) => h("span", { title: value(run.parameters[name.slice(6)]) }, value(run.parameters[name.slice(6)])) };
    if (FIXED.includes(name)) return { key: name, head: name[0].toUpperCase() + name.slice(1), width: 110, cell: (run) => run[name] };
    const [metric, which] = [name.slice(0, name.lastIndexOf(".")), short(name)];
    return { key: name, ...this.sortable(name, name, name), width: 130, number: true, cell: (run) => number(run.metrics[metric]?.[which]) };
  }

  /** A head that sorts: best or newest first, then the other way round. */
  sortable(text, name, first) {
    const [other] = [first.startsWith("-") ? name : `-${name}`];
    const sorted = this.sort === first ? "descending" : this.sort === other ? "ascending" : null;
    const sign = { descending: " ▾", ascending: " ▴" }[sorted] ?? "";
    const click = () => {
      this.sort = this.sort === first ? other : first;
      this.drawColumns();
      this.reload();
    };
    return { head: h("button", { class: "sort", click }, text, sign), sorted };
  }

  checkbox(run) {
    return h("input", { type: "checkbox", checked: this.selected.has(run.id), "aria-label": `Select ${run.name}`, click: (event) => this.select(run, event) });
  }

  /** With shift, all from the last one that was clicked. */
  select(run, event) {
    const rows = this.matching();
    const [at, before] = [rows.indexOf(run), rows.findIndex(({ id }) => id === this.anchor)];
    const range = event.shiftKey && before >= 0 ? rows.slice(Math.min(at, before), Math.max(at, before) + 1) : [run];
    for (const { id } of range) this.selected[event.target.checked ? "add" : "delete"](id);
    this.anchor = run.id;
    if (range.length > 1) this.grid.redraw();
    this.drawState();
  }

  selectAll(on) {
    this.selected = new Set(on ? this.matching().slice(0, MOST_COMPARED).map(({ id }) => id) : []);
    this.grid.redraw();
    this.drawState();
  }

  compare() {
    if (this.selected.size < 2) return notice("Select at least two runs first.");
    if (this.selected.size > MOST_COMPARED) return notice(`At most ${MOST_COMPARED} runs can be compared.`, "bad");
    const metric = /^-?(.+)\.(best|last)$/.exec(this.sort)?.[1];
    return go("compare", { runs: [...this.selected].join(","), metric });
  }
}
