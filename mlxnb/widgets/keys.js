// What ipywidgets cannot do: keys that work anywhere in a panel, names for its sliders, and the clipboard.
function render({ model, el }) {
  el.style.display = "none";
  const panel = () => el.closest(".mlxnb-panel");
  const click = (kind, event) => {
    const button = panel().querySelector(`button.mlxnb-${kind}:not([disabled])`);
    // A number field tells what was typed as it is left; a key leaves none.
    if (button) event.target.dispatchEvent(new Event("change", { bubbles: true }));
    if (button) button.click();
    return Boolean(button);
  };
  const key = (event) => {
    if (!panel()?.contains(event.target)) return;
    const generates = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    const kind = generates ? "primary" : event.key === "Escape" ? "stop" : null;
    if (kind && click(kind, event)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  };
  const name = () => {
    for (const slider of panel()?.querySelectorAll(".widget-slider") ?? []) {
      const label = slider.querySelector("label")?.textContent;
      for (const handle of slider.querySelectorAll("[role=slider]")) handle.setAttribute("aria-label", label);
      slider.querySelector("[contenteditable]")?.setAttribute("aria-label", `${label}, as a number`);
    }
  };
  const copy = async (message) => {
    try {
      await navigator.clipboard.writeText(message.copy);
      model.send({ copied: true });
    } catch (error) {
      model.send({ copied: false });
    }
  };
  // Before JupyterLab's own keys, which listen on the document.
  window.addEventListener("keydown", key, true);
  model.on("msg:custom", copy);
  const seen = new MutationObserver(name);
  requestAnimationFrame(() => {
    name();
    if (!panel()) return;
    panel().dataset.keys = "on";
    seen.observe(panel(), { childList: true, subtree: true });
  });
  return () => {
    window.removeEventListener("keydown", key, true);
    model.off("msg:custom", copy);
    seen.disconnect();
  };
}
export default { render };
