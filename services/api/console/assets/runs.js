// Two runs are compared: the button waits until two are ticked, and a third cannot be.
(() => {
  "use strict";
  const ticks = () => [...document.querySelectorAll("[data-compare] input[name=run]")];
  function look() {
    const form = document.querySelector("[data-compare]");
    if (!form) return;
    const chosen = ticks().filter((tick) => tick.checked).length;
    for (const tick of ticks()) tick.disabled = chosen >= 2 && !tick.checked;
    form.querySelector("button[type=submit]").disabled = chosen !== 2;
  }
  document.addEventListener("change", (event) => { if (event.target.closest("[data-compare]")) look(); });
  window.addEventListener("pageshow", look);
  function begin() {
    if (!document.querySelector(".desk-page section")) return setTimeout(begin, 50); // the page is made in the browser
    look();
  }
  begin();
})();
