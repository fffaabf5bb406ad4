/** The code that does what a button does, so that the panel hides nothing. */

/** What a person asks for in the form that starts a group. */
export interface Wish {
  ranks: number;
  /** As `--hosts` takes them; empty for this machine. */
  hosts: string;
}

export function upCode(wish: Wish): string {
  const hosts = wish.hosts.trim();
  const where = hosts === '' ? `-n ${wish.ranks}` : `--hosts ${hosts}`;
  return `%load_ext eai_notebook\n%eai up ${where}`;
}
