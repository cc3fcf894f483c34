/** Who is signed in. The token lives as long as the tab, or on this computer if that was asked for. */

const KEY = "trainbox.token";

/** @typedef {{ user: string, scope: "read" | "submit" | "admin" }} Person */

/** @type {Person | null} */
let person = null;

/** @returns {string | null} */
export function token() {
  return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
}

/** @param {string} text @param {boolean} longer beyond the tab */
export function keep(text, longer) {
  forget();
  (longer ? localStorage : sessionStorage).setItem(KEY, text);
}

export function forget() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
  person = null;
}

/** @param {Person} found */
export function introduce(found) {
  person = found;
}

/** @returns {Person} */
export function me() {
  return person ?? { user: "", scope: "read" };
}

/** Whether whoever is signed in may change something of this user's. @param {string} owner */
export function may(owner) {
  return me().scope === "admin" || (me().scope === "submit" && me().user === owner);
}

export function maySubmit() {
  return me().scope !== "read";
}
