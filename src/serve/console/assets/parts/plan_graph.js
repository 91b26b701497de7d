// From which streams, over which views, does a view come?

import { html, useMemo, useRef, useEffect } from "../vendor/preact.js";
import { Graph, layout } from "../vendor/dagre.js";
import { to } from "../frame/router.js";
import { count, thousands } from "../words/wording.js";

const narrow = matchMedia("(max-width: 760px)");
const WIDTH = 190;
const HEIGHT = 90;
const LONGEST_LABEL = 22;

/** Where nodes and edges stand. Counters move nothing: only ids and edges do. */
function placed(nodes, edges, rankdir) {
  const graph = new Graph();
  graph.setGraph({ rankdir, nodesep: 28, ranksep: 70, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(node.id, { width: WIDTH, height: HEIGHT });
  for (const edge of edges) graph.setEdge(edge.from, edge.to);
  layout(graph);
  return {
    size: graph.graph(),
    at: new Map(nodes.map((node) => [node.id, graph.node(node.id)])),
    lines: edges.map((edge) => ({ ...edge, points: graph.edge(edge.from, edge.to)?.points ?? [] })),
  };
}

function curve(points) {
  if (points.length < 2) return "";
  const [first, ...rest] = points;
  let path = `M${first.x},${first.y}`;
  for (let at = 0; at < rest.length - 1; at += 1) {
    const [here, next] = [rest[at], rest[at + 1]];
    path += ` Q${here.x},${here.y} ${(here.x + next.x) / 2},${(here.y + next.y) / 2}`;
  }
  const last = rest.at(-1);
  return `${path} L${last.x},${last.y}`;
}

export function PlanGraph({ plan }) {
  const shape = JSON.stringify([plan.nodes.map((node) => node.id), plan.edges]);
  const rankdir = narrow.matches ? "TB" : "LR";
  const { size, at, lines } = useMemo(() => placed(plan.nodes, plan.edges, rankdir), [shape, rankdir]);
  return html`<div class="scroll plan" tabindex="0" role="region" aria-label="Plan of ${plan.view}">
    <svg
      width=${size.width}
      height=${size.height}
      viewBox="0 0 ${size.width} ${size.height}"
      role="group"
      aria-label=${`${plan.view} comes from ${plan.nodes.length - 1} relations`}
    >
      <defs>
        <marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
          <path d="M0,0.500 L8,4 L0,7.500 z" class="arrow" />
        </marker>
      </defs>
      ${lines.map(
        (line) => html`<path key=${`${line.from}>${line.to}`} class="edge" d=${curve(line.points)} marker-end="url(#arrow)" />`,
      )}
      ${plan.nodes.map((node) => html`<${Node} key=${node.id} node=${node} at=${at.get(node.id)} />`)}
    </svg>
  </div>`;
}

/** The same as a table: what reads what is seen in the graph alone. */
export function PlanTable({ plan }) {
  const named = (id) => html`<a href=${to(["views", id])}>${id}</a>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Plan as a table">
    <table class="data stacking">
      <caption class="sr">
        Streams and views that ${plan.view} rests on, and itself
      </caption>
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">Kind</th>
          <th scope="col">Reads</th>
          <th scope="col" class="number">Rows</th>
          <th scope="col" class="number">Epoch</th>
          <th scope="col">Calls</th>
        </tr>
      </thead>
      <tbody>
        ${plan.nodes.map((node) => {
          const reads = plan.edges.filter((edge) => edge.to === node.id).map((edge) => edge.from);
          return html`<tr key=${node.id}>
            <th scope="row">${named(node.id)}</th>
            <td data-label="Kind">${node.kind}</td>
            <td data-label="Reads">
              ${reads.length === 0 ? "–" : reads.map((id, at) => html`${at > 0 && ", "}${named(id)}`)}
            </td>
            <td data-label="Rows" class="number">${node.n_rows == null ? "–" : thousands(node.n_rows)}</td>
            <td data-label="Epoch" class="number">${node.epoch == null ? "–" : thousands(node.epoch)}</td>
            <td data-label="Calls">${node.asks ? callsOf(node.asks) : "–"}</td>
          </tr>`;
        })}
      </tbody>
    </table>
  </div>`;
}

/** How often models were asked. */
function callsOf({ n_calls: n, n_failed: nFailed }) {
  return nFailed > 0 ? `${count(n, "call")}, ✕ ${thousands(nFailed)} failed` : count(n, "call");
}

function Node({ node, at }) {
  const group = useRef(null);
  const counters = [node.n_rows, node.epoch, node.asks?.n_calls].join();
  const before = useRef(counters);
  useEffect(() => {
    if (before.current === counters) return;
    before.current = counters;
    group.current?.animate?.([{ opacity: 0.35 }, { opacity: 1 }], { duration: 700 });
  }, [counters]);
  const label =
    node.label.length > LONGEST_LABEL ? `${node.label.slice(0, LONGEST_LABEL - 1)}…` : node.label;
  const asks = node.asks;
  const models = (asks?.models ?? []).filter((model) => model !== null);
  const kind = [node.kind, ...models].join(" · ");
  const numbers = [
    node.n_rows === null || node.n_rows === undefined ? null : count(node.n_rows, "row"),
    node.epoch === null || node.epoch === undefined ? null : `epoch ${thousands(node.epoch)}`,
  ].filter(Boolean);
  return html`<a href=${to(["views", node.id])} class="node node-${node.kind}">
    <g ref=${group} transform="translate(${at.x - WIDTH / 2},${at.y - HEIGHT / 2})">
      ${label !== node.label && html`<title>${node.label}</title>`}
      <rect width=${WIDTH} height=${HEIGHT} rx="8" />
      <text x="14" y="22" class="node-kind">${kind}</text>
      <text x="14" y="42" class="node-name">${label}</text>
      <text x="14" y="60" class="node-number">${numbers.join(" · ")}</text>
      <text x="14" y="76" class=${asks?.n_failed > 0 ? "node-number bad" : "node-number"}>${asks ? callsOf(asks) : ""}</text>
    </g>
  </a>`;
}
