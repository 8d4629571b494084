(function () {
  "use strict";
  var LIMIT = 12;
  var root = document.documentElement;
  var cards = Array.prototype.slice.call(document.querySelectorAll(".solution"));
  var buttons = Array.prototype.slice.call(document.querySelectorAll("[data-filter]"));
  var more = document.getElementById("show-more");
  var shown = document.getElementById("shown");
  var filter = "all";
  var showsAll = false;

  function matches(card) {
    if (filter === "all") return true;
    if (filter === "disagrees") return card.dataset.disagrees === "true";
    return card.dataset.verdict === filter;
  }

  function update() {
    var found = 0;
    cards.forEach(function (card) {
      var fits = matches(card);
      if (fits) found += 1;
      card.hidden = !fits;
      card.classList.toggle("beyond", fits && !showsAll && found > LIMIT);
    });
    var visible = showsAll ? found : Math.min(found, LIMIT);
    buttons.forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === filter));
    });
    shown.textContent = "showing " + visible + " of " + found;
    more.textContent = "Show all " + found;
    more.hidden = visible === found;
    root.dataset.shown = String(visible);
  }

  function measure() {
    root.dataset.clientWidth = String(root.clientWidth);
    root.dataset.scrollWidth = String(root.scrollWidth);
    root.dataset.scrollHeight = String(root.scrollHeight);
  }

  root.dataset.script = "ran";
  if (cards.length) {
    buttons.forEach(function (button) {
      button.addEventListener("click", function () {
        filter = button.dataset.filter;
        showsAll = false;
        update();
      });
    });
    more.addEventListener("click", function () {
      showsAll = true;
      update();
    });
    update();
  }
  window.addEventListener("resize", measure);
  window.addEventListener("load", measure);
  measure();
})();
