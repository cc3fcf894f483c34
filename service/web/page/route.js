/** Where the page is: `#/view/part?state`. All state that a colleague should see stands there, a token never. */

/** @typedef {{ view: string, part: string | null, query: URLSearchParams }} Route */

/** @returns {Route} */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, part] = path.split("/");
  return { view: view || "box", part: part ? decoded(part) : null, query: new URLSearchParams(query) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** An address for a link. @param {string} path such as `run/ID` @param {Record<string, any> | URLSearchParams} [query] */
export function href(path, query = {}) {
  const state = query instanceof URLSearchParams ? query : new URLSearchParams(given(query));
  return `#/${path}${state.size ? `?${state}` : ""}`;
}

/** @param {Record<string, any>} query */
function given(query) {
  return Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "").map(([key, value]) => [key, String(value)]);
}

/** @param {string} path @param {Record<string, any>} [query] */
export function go(path, query) {
  location.hash = href(path, query);
}

/** Writes state into the address without going anywhere. @param {Record<string, any>} changes null removes */
export function remember(changes) {
  const { view, part, query } = here();
  for (const [key, value] of Object.entries(changes)) {
    query.delete(key);
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "" && each !== false) query.append(key, String(each));
    }
  }
  history.replaceState(history.state, "", href(part === null ? view : `${view}/${encodeURIComponent(part)}`, query));
}
