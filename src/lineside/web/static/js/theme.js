// @ts-check
// A classic script, loaded before the styles are used, so that no page flashes in the other theme.
"use strict";
(() => {
  const root = document.documentElement;
  const read = () => {
    try {
      return localStorage.getItem("lineside.theme");
    } catch {
      return null; // storage switched off: the system's theme holds
    }
  };
  /** @param {string | null} theme */
  const apply = (theme) => {
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  apply(read());
  if (new URLSearchParams(location.search).get("wall") === "1") root.dataset.wall = "";

  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-theme-switch]");
    button?.addEventListener("click", () => {
      const dark = root.dataset.theme
        ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      const next = dark ? "light" : "dark";
      try {
        localStorage.setItem("lineside.theme", next);
      } catch {
        // holds for this page only
      }
      apply(next);
      dispatchEvent(new Event("lineside:theme"));
    });
  });
})();
