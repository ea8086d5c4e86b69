/** How the page looks. Text and lines have the contrast of WCAG AA in both schemes; colour never says anything alone. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f4f5f7; --panel: #ffffff; --ink: #14181f; --soft: #545d6b; --line: #d9dde3; --inset: #eef0f3;
  --accent: #1d4ed8; --on-accent: #ffffff; --good: #166534; --good-ground: #dcfce7; --bad: #b42318; --bad-ground: #fee4e2;
  --now: #7c2d12; --now-ground: #fff1e0; --now-line: #f4b76a;
  --v0: #2563eb; --v1: #ea7317; --v2: #0f8a7e; --v3: #b83280; --v4: #6d5ae0; --v5: #6b7280;
  font: 14px/1.45 Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1217; --panel: #181c23; --ink: #e8ebf0; --soft: #a2abb9; --line: #2c323c; --inset: #222831;
    --accent: #7aa5ff; --on-accent: #0b1220; --good: #7ddf9c; --good-ground: #12301d; --bad: #ff9c92; --bad-ground: #40191a;
    --now: #ffc98a; --now-ground: #33230f; --now-line: #8a5a1c;
    --v0: #6d9eff; --v1: #ff9a4d; --v2: #3fc9b8; --v3: #f07ab8; --v4: #a99bff; --v5: #9aa3b2;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--ground); color: var(--ink); }
h1, h2, h3, p, ol, ul, dl, dd, figure { margin: 0; padding: 0; }
ol, ul { list-style: none; }
h1 { font-size: 1.35rem; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; overflow-wrap: anywhere; }
h3 { font-size: 0.98rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.quiet, .about { color: var(--soft); }
.quiet:empty { display: none; }

.top { display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem; align-items: center; justify-content: space-between;
  padding: 0.9rem 1.4rem; background: var(--panel); border-bottom: 1px solid var(--line); }
.names { display: flex; flex-wrap: wrap; gap: 0 0.9rem; align-items: baseline; }
.top-right { display: flex; flex-wrap: wrap; gap: 0.6rem 1rem; align-items: center; }
.status::before { content: ''; display: inline-block; width: 0.6em; height: 0.6em; margin-right: 0.45em; border-radius: 50%;
  background: var(--v5); }
.status.live::before { background: var(--v2); }
.status.lost::before, .status.busy::before { background: var(--bad); }
.status.lost, .status.busy { color: var(--bad); }
.stale .left { opacity: 0.6; }

.layout { display: grid; grid-template-columns: minmax(0, 1fr) 23rem; gap: 1.1rem; padding: 1.1rem 1.4rem; max-width: 110rem;
  margin: 0 auto; align-items: start; }
.left, .pools { display: grid; gap: 1.1rem; min-width: 0; }
.panel { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem; min-width: 0; }

.pool-head { display: flex; flex-wrap: wrap; gap: 0.3rem 0.8rem; align-items: center; cursor: pointer; list-style-position: inside; }
.pool-head h2 { font-size: 1.15rem; }
.pool-head::-webkit-details-marker { display: none; }
.pool-head::before { content: '▸'; color: var(--soft); }
.pool[open] > .pool-head::before { content: '▾'; }
.pool-ready, .pool-version { color: var(--soft); overflow-wrap: anywhere; }
.badge { padding: 0.05rem 0.55rem; border-radius: 99px; background: var(--inset); color: var(--soft); font-size: 0.85rem; }
.badge.good { background: var(--good-ground); color: var(--good); }
.badge.bad { background: var(--bad-ground); color: var(--bad); }
.figures { display: flex; flex-wrap: wrap; gap: 0.4rem 2rem; margin-top: 0.8rem; }
.figures dt { color: var(--soft); font-size: 0.82rem; }
.figures dd { font-size: 1.15rem; font-variant-numeric: tabular-nums; }

.rollout { display: flex; flex-wrap: wrap; gap: 0.7rem 1.4rem; align-items: center; margin-top: 0.9rem; padding: 0.75rem 0.9rem;
  border: 1px solid var(--now-line); border-radius: 8px; background: var(--now-ground); }
.rollout h3 { color: var(--now); overflow-wrap: anywhere; }
.rollout-words { flex: 1 1 18rem; min-width: 0; }
.rollout-buttons { display: flex; gap: 0.5rem; }
.steps { display: flex; flex-wrap: wrap; gap: 0.3rem; font-size: 0.85rem; }
.steps li { padding: 0.1rem 0.6rem; border-radius: 99px; border: 1px solid var(--line); color: var(--soft); background: var(--panel); }
.steps .done { color: var(--good); border-color: currentColor; }
.steps .done::before { content: '✓ '; }
.steps .now { color: var(--on-accent); background: var(--accent); border-color: var(--accent); font-weight: 600; }

.traffic { margin-top: 0.9rem; }
.traffic-bar { display: flex; gap: 2px; height: 0.85rem; border-radius: 5px; overflow: hidden; background: var(--inset); }
.traffic-part { flex: 0 1 0; min-width: 3px; background: var(--c); transition: flex-grow 0.5s; }
.legend, .replicas { display: flex; flex-wrap: wrap; gap: 0.25rem 1.2rem; margin-top: 0.45rem; font-size: 0.9rem; }
.legend li, .replicas li { overflow-wrap: anywhere; }
.models .room { flex: 0 1 0; }
.shelves { display: grid; gap: 0.6rem; margin-top: 0.4rem; }
.shelves p { margin-bottom: 0.25rem; font-variant-numeric: tabular-nums; }
.scaling { margin-top: 0.5rem; }
.swatch { display: inline-block; width: 0.7em; height: 0.7em; margin-right: 0.45em; border-radius: 2px; background: var(--c); }
.version-0 { --c: var(--v0); } .version-1 { --c: var(--v1); } .version-2 { --c: var(--v2); }
.version-3 { --c: var(--v3); } .version-4 { --c: var(--v4); } .version-5 { --c: var(--v5); }
.ink { --c: var(--accent); } .failures { --c: var(--bad); }

.pool { container-type: inline-size; }
.charts { display: grid; gap: 0.9rem 1.3rem; margin-top: 1rem; }
@container (min-width: 22rem) { .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@container (min-width: 52rem) { .charts { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
.chart figcaption { display: flex; justify-content: space-between; gap: 0.6rem; font-size: 0.86rem; color: var(--soft); }
.chart-now { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.chart svg { display: block; width: 100%; height: 4.6rem; margin-top: 0.25rem; border-bottom: 1px solid var(--line);
  background: linear-gradient(var(--inset), transparent); border-radius: 5px 5px 0 0; }
.chart-scale { display: flex; justify-content: space-between; font-size: 0.75rem; color: var(--soft); }
.grid { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.area { fill: var(--c); stroke: none; opacity: 0.85; }
.line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.mark { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.mark.good { stroke: var(--good); } .mark.bad { stroke: var(--bad); }

.pool-foot { display: flex; flex-wrap: wrap; gap: 0.8rem 1.6rem; justify-content: space-between; align-items: center; margin-top: 0.9rem;
  padding-top: 0.8rem; border-top: 1px solid var(--line); }
.replicas { margin-top: 0; color: var(--soft); }
.swap-form, .canary { display: flex; flex-wrap: wrap; gap: 0.45rem; align-items: center; }
.swap-form label, .canary { color: var(--soft); }
input { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--soft); border-radius: 6px; padding: 0.3rem 0.5rem;
  min-width: 0; }
.version-input, .model-input { width: 7rem; }
.percent-input { width: 4rem; }
.button { font: inherit; font-weight: 550; padding: 0.32rem 0.8rem; border-radius: 6px; border: 1px solid var(--soft); background: var(--panel);
  color: var(--ink); cursor: pointer; }
.button:hover { background: var(--inset); }
.button.primary { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.button.primary:hover { filter: brightness(1.08); }
.button.warn { border-color: var(--bad); color: var(--bad); }
.notice { margin-top: 0.8rem; padding: 0.5rem 0.8rem; border-radius: 6px; background: var(--inset); overflow-wrap: anywhere; }
.notice:empty { display: none; }
.notice.good { background: var(--good-ground); color: var(--good); }
.notice.bad { background: var(--bad-ground); color: var(--bad); }

.scroll { overflow-x: auto; margin-top: 0.6rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } thead th { color: var(--soft); font-size: 0.85rem; }
th:first-child { text-align: left; overflow-wrap: anywhere; min-width: 8rem; }

.events-panel { position: sticky; top: 1.1rem; }
.events { margin-top: 0.6rem; max-height: calc(100vh - 7rem); overflow-y: auto; }
.event { padding: 0.45rem 0 0.45rem 0.7rem; border-left: 3px solid var(--line); border-bottom: 1px solid var(--line); font-size: 0.9rem; }
.event p { overflow-wrap: anywhere; }
.event.good { border-left-color: var(--v2); } .event.bad { border-left-color: var(--bad); }
.event.bad .event-kind { color: var(--bad); }
.event.missing { color: var(--soft); }
.event-head { display: flex; flex-wrap: wrap; gap: 0 0.7rem; color: var(--soft); font-size: 0.82rem; }
.event-kind { font-weight: 600; color: var(--ink); }
.event-pool { overflow-wrap: anywhere; }

.dialog { width: min(34rem, calc(100vw - 2rem)); border: 1px solid var(--line); border-radius: 12px; background: var(--panel); color: var(--ink);
  padding: 1.3rem; }
.dialog::backdrop { background: rgb(0 0 0 / 45%); }
.dialog form { display: grid; gap: 0.7rem; }
.dialog label { color: var(--soft); margin-bottom: -0.4rem; }
.command { padding: 0.5rem 0.7rem; border-radius: 6px; background: var(--inset); font: 0.88rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; user-select: all; }
.problem { color: var(--bad); min-height: 1.4em; }
.dialog-buttons { display: flex; gap: 0.6rem; justify-content: flex-end; }

@media (max-width: 68rem) {
  .layout { grid-template-columns: minmax(0, 1fr); }
  .events-panel { position: static; }
  .events { max-height: 24rem; }
}
@media (max-width: 40rem) {
  .top, .layout { padding-left: 0.8rem; padding-right: 0.8rem; }
  .figures { gap: 0.4rem 1.3rem; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
`;
