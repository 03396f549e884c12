// Follows the answer to its end, unless the reader has scrolled up.

import { byId } from "./dom.js";

let atEnd = true;
let lastTop = 0;

export function follow(always = false) {
  const scroller = byId("scroller");
  if (always === true) atEnd = true;
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
}

// Text may have grown between our scrolling and its event, so being far from the end is no sign; going up is.
export function onScroll() {
  const { scrollTop, scrollHeight, clientHeight } = byId("scroller");
  if (scrollHeight - scrollTop - clientHeight < 48) atEnd = true;
  else if (scrollTop < lastTop) atEnd = false;
  lastTop = scrollTop;
}
