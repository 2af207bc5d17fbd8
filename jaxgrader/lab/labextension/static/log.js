/* A log in a tab of its own: text, and nothing but text. */
import { make, setText } from './dom.js';

/** What terminals take for colours and movements. */
const ESCAPES = /\x1b\[[0-9;?]*[ -/]*[@-~]/g;

/** Return a widget that shows what `load` returns. */
export function makeLog({ widgets }, title, load) {
  const text = make('pre', { className: 'jg-Log-text', tabIndex: 0, 'aria-label': title });
  const refresh = make('button', { className: 'jg-Button', textContent: 'Refresh' });
  const node = make(
    'div',
    { className: 'jg-Log' },
    make('div', { className: 'jg-Log-head' }, make('h2', { textContent: title }), refresh),
    text
  );
  async function fill() {
    try {
      setText(text, (await load()).log.replace(ESCAPES, '') || 'The log is empty.');
    } catch (error) {
      setText(text, error.message);
    }
  }
  refresh.addEventListener('click', fill);
  fill();
  return new widgets.Widget({ node });
}
