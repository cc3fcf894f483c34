/** Requests to the public API, and nothing else. */

import * as session from "./session.js";

/**
 * @typedef {Record<string, any>} Query values that are lists are repeated, empty ones left out
 * @typedef {{ method?: string, query?: Query, body?: any, type?: string, headers?: Record<string, string>, signal?: AbortSignal }} Options
 */

/** An answer that is no success, in its own words (RFC 9457). */
export class Problem extends Error {
  /** @param {number} status @param {any} told */
  constructor(status, told) {
    super(told?.errors?.length === 1 ? `${told.errors[0].param}: ${told.errors[0].message}` : told?.detail ?? `the service answered ${status}`);
    this.status = status;
    /** @type {{param: string, code: string, message: string, hint?: string}[]} */
    this.errors = told?.errors ?? [];
  }
}

/** The path with its query. @param {string} path @param {Query} [query] */
export function address(path, query = {}) {
  const pairs = Object.entries(query).flatMap(([key, value]) => [value].flat().map((each) => [key, each]));
  const state = new URLSearchParams(pairs.filter(([, each]) => each !== null && each !== undefined && each !== "").map(([key, each]) => [key, String(each)]));
  return state.size ? `${path}?${state}` : path;
}

/**
 * The answer to a request, when it is a success. Raises Problem, and tells the page when the token is not valid.
 * @param {string} path @param {Options} [options]
 */
export async function ask(path, { method = "GET", query, body, type = "application/json", headers = {}, signal } = {}) {
  const answer = await fetch(address(path, query), {
    method, signal, credentials: "omit", cache: "no-store", redirect: "error",
    headers: { Authorization: `Bearer ${session.token()}`, ...(body === undefined ? {} : { "Content-Type": type }), ...headers },
    body: body === undefined ? undefined : type === "application/json" ? JSON.stringify(body) : body,
  }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the service cannot be reached");
  });
  if (answer.ok) return answer;
  if (answer.status === 401) dispatchEvent(new Event("signed-out"));
  throw new Problem(answer.status, await answer.json().catch(() => null));
}

/** @param {string} path @param {Query} [query] @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function get(path, query, signal) {
  return (await ask(path, { query, signal })).json();
}

/** The same, or null where there is no such thing. @param {string} path @param {Query} [query] @param {AbortSignal} [signal] */
export async function find(path, query, signal) {
  try {
    return await get(path, query, signal);
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** For what must happen once, however often it is asked for. `randomUUID` is not there without TLS on other machines. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}

/** Creates; the key makes sure that a repeated click creates once. @param {string} path @param {any} body @param {string} key */
export async function create(path, body, key) {
  return (await ask(path, { method: "POST", body, headers: { "Idempotency-Key": key } })).json();
}

/** @param {string} path @param {Options} [options] @returns {Promise<any>} */
export async function send(path, options) {
  const answer = await ask(path, { method: "POST", ...options });
  return answer.status === 204 ? null : answer.json();
}

/** Saves what a path answers under a name. @param {string} path @param {string} name @param {Query} [query] */
export async function download(path, name, query) {
  const url = URL.createObjectURL(await (await ask(path, { query })).blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A path below a collection. @param {string} base @param {...string} parts */
export function below(base, ...parts) {
  return [base, ...parts.map(encodeURIComponent)].join("/");
}
