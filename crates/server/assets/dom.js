// Nodes of the page, figures in words, and what the browser remembers. Text only ever becomes text nodes.

export const byId = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Storage throws where cookies are blocked; the page then works without a memory.
export const memory = {
  read(store, key) {
    try {
      return window[store].getItem(key);
    } catch {
      return null;
    }
  },
  write(store, key, value) {
    try {
      if (value === null) window[store].removeItem(key);
      else window[store].setItem(key, value);
    } catch {
      // Nothing is lost but the setting.
    }
  },
};

// Tokens arrive faster than a screen can show figures: these are drawn once a frame.
const dirty = new Set();
export function soon(draw) {
  if (dirty.size === 0) requestAnimationFrame(drawNow);
  dirty.add(draw);
}
function drawNow() {
  const draws = [...dirty];
  dirty.clear();
  for (const draw of draws) draw();
}

export const decimals = (value, digits) => value.toFixed(digits);
export const percent = (part, whole) => `${Math.round((100 * part) / whole)}%`;
export const rate = (value) => (value >= 100 ? decimals(value, 0) : decimals(value, 1));
export const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${decimals(ms / 1000, 2)} s`);

// Unlike crypto.randomUUID, this also works on a page without TLS.
export const newId = () => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");
