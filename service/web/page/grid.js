/** A table of any length: only the rows that can be seen are in the document. */

import { h, refill } from "./dom.js";

const ROW = 30; // pixels, as in the style sheet
const SPARE = 12; // rows kept beyond either edge

/**
 * @typedef {{ key: string, head: any, width: number, cell: (row: any) => any, sorted?: "ascending" | "descending" | null, number?: boolean }} Column
 * @typedef {{ label: string, end: () => void }} Options end: called when the last rows come near
 */

export class Grid {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    /** @type {Column[]} */
    this.columns = [];
    /** @type {any[]} */
    this.rows = [];
    this.drawn = { from: -1, to: -1 };
    this.body = h("tbody");
    this.head = h("thead");
    this.table = h("table", { class: "grid" }, h("caption", { class: "hidden" }, options.label), this.head, this.body);
    this.element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": options.label, scroll: () => this.draw() }, this.table);
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** @param {Column[]} columns */
  setColumns(columns) {
    this.columns = columns;
    this.table.style.width = `max(100%, ${columns.reduce((sum, { width }) => sum + width, 0)}px)`;
    refill(this.head, h("tr", {}, columns.map(({ head, width, sorted, number }) => {
      const cell = h("th", { scope: "col", "aria-sort": sorted ?? null, class: number ? "number" : null }, head);
      cell.style.width = `${width}px`;
      return cell;
    })));
    this.redraw();
  }

  /** @param {any[]} rows */
  setRows(rows) {
    this.rows = rows;
    this.table.setAttribute("aria-rowcount", String(rows.length + 1));
    this.redraw();
  }

  redraw() {
    this.drawn = { from: -1, to: -1 };
    this.draw();
  }

  draw() {
    const { scrollTop, clientHeight } = this.element;
    const from = Math.max(0, Math.floor(scrollTop / ROW) - SPARE);
    const to = Math.min(this.rows.length, Math.ceil((scrollTop + (clientHeight || 600)) / ROW) + SPARE);
    if (to >= this.rows.length - SPARE) this.options.end();
    if (from === this.drawn.from && to === this.drawn.to) return;
    this.drawn = { from, to };
    const rows = this.rows.slice(from, to).map((row, place) => h("tr", { "aria-rowindex": from + place + 2 },
      this.columns.map(({ cell, number }) => h("td", { class: number ? "number" : null }, cell(row)))));
    refill(this.body, gap(from), rows, gap(this.rows.length - to));
  }
}

/** The height of rows that are not drawn. @param {number} count */
function gap(count) {
  if (count <= 0) return null;
  const row = h("tr", { "aria-hidden": "true", class: "gap" }, h("td"));
  row.firstChild.style.height = `${count * ROW}px`;
  return row;
}
