/** The code that does what a button does, so that the panel hides nothing. */

/** What a person asks for in the form that starts a group. */
export interface Wish {
  ranks: number;
  /** As `--hosts` takes them; empty for this machine. */
  hosts: string;
  /** What gradients travel in where the optimizer does not say. */
  wire: string;
  /** Whether the group outlives the notebook's kernel. */
  keep: boolean;
}

export const WIRES = ['fp32', 'fp16', 'bf16', 'int8', 'auto'] as const;

export function upCode(wish: Wish): string {
  const hosts = wish.hosts.trim();
  const where = hosts === '' ? `-n ${wish.ranks}` : `--hosts ${hosts}`;
  const wire = wish.wire === 'fp32' ? '' : ` --wire ${wish.wire}`;
  return `%load_ext eai_notebook\n%eai up ${where}${wire}${wish.keep ? ' --keep' : ''}`;
}
