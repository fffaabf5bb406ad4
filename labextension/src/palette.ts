/** The colour of a part, the same in every display. */
import { COLOURS } from './generated';

export function colour(part: string): string {
  return COLOURS[part] ?? '#999999';
}
