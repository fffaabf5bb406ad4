/** How tall and how labelled an axis is; `eai_notebook/display/axis.py` does the same. */

/**
 * The top of an axis on which most bars can be read.
 *
 * The first step compiles and may be a thousand times longer than the rest: such bars are
 * cut at the top and marked, instead of flattening all others.
 */
export function robustTop(lengths: readonly number[]): number {
  const ordered = [...lengths].sort((a, b) => a - b);
  const longest = ordered.at(-1) ?? 1;
  const ninth = Math.floor(0.9 * (ordered.length - 1));
  const usual = ordered[Math.max(0, Math.min(ordered.length - 2, ninth))] ?? longest;
  return (longest <= 2 * usual ? longest : 1.3 * usual) || 1;
}

/** Round numbers from 0 to `top`, about `count` of them. */
export function ticks(top: number, count: number): number[] {
  const raw = top / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find(m => power * m >= raw) ?? 10);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) =>
    Number((step * i).toPrecision(10))
  );
}
