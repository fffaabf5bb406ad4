/** Small pieces of DOM and canvas that all charts are made of. */

export function element(
  tag: string,
  className: string,
  ...children: (HTMLElement | string)[]
): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

export function canvas(label: string): HTMLCanvasElement {
  const made = document.createElement('canvas');
  made.setAttribute('role', 'img');
  made.setAttribute('aria-label', label);
  return made;
}

/** An element with text at a position inside its parent. */
export function placed(
  tag: string,
  side: 'left' | 'bottom' | 'top',
  where: string,
  text: string
): HTMLElement {
  const made = element(tag, '', text);
  made.style[side] = where;
  return made;
}

/** Size a canvas for the screen's pixels and clear it. */
export function prepare(
  target: HTMLCanvasElement,
  wide: number,
  tall: number
): CanvasRenderingContext2D {
  const ratio = window.devicePixelRatio || 1;
  target.width = Math.round(wide * ratio);
  target.height = Math.round(tall * ratio);
  const pen = target.getContext('2d');
  if (pen === null) {
    throw new Error('this browser gives no 2D canvas');
  }
  pen.scale(ratio, ratio);
  return pen;
}
