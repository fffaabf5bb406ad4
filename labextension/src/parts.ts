/** How each part of a step is drawn and named: the package's own, and those of other packages. */
import { PARTS, type PartStyle } from './generated';
import type { View } from './types';

const UNKNOWN: PartStyle = {
  colour: '#999999',
  meaning: '',
  letter: '?',
  texture: [],
  doing: '',
  activity: 'running',
  wait: '',
  needs_peers: false
};

const added = new Map<string, PartStyle>();

/** Note how the parts of other packages are drawn; a view from the kernel says it. */
export function learnParts(view: View): void {
  for (const [name, style] of Object.entries(view.added_parts ?? {})) {
    added.set(name, style);
  }
}

export function partStyle(name: string): PartStyle {
  return PARTS[name] ?? added.get(name) ?? UNKNOWN;
}

/** The colour of a part, the same in every display. */
export function colour(name: string): string {
  return partStyle(name).colour;
}
