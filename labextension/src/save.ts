/** Have the browser save a file. */
import type { Download } from './types';

export function save(file: Download): void {
  saveBlob(file.name, new Blob([file.text], { type: file.type }));
}

export function saveBlob(name: string, content: Blob): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
