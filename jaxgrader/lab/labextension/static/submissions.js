/* The submissions of one assignment: a table in the panel, a row for each. */
import { arrange, duration, make, plural, setText } from './dom.js';

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'short', timeStyle: 'short' });

/** How many rows are shown before somebody asks for more. */
const PAGE = 100;
export const STATES = [
  'not graded',
  'queued',
  'running',
  'graded',
  'stale',
  'needs manual grading',
  'failed'
];

/** A state as a coloured word; the word alone says it, too. */
export function chip(state) {
  return make('span', {
    className: `jg-State jg-mod-${state.replaceAll(' ', '-')}`,
    textContent: state
  });
}

/** One submission. `actions` are the panel's. */
class Row {
  constructor(assignment, data, actions) {
    this.id = { assignment, student: data.student };
    this.actions = actions;
    this.check = make('input', {
      type: 'checkbox',
      'aria-label': `Select ${data.student}`,
      onchange: () => actions.select(this.id, this.check.checked)
    });
    this.state = make('td');
    this.time = make('td', { className: 'jg-mod-number' });
    this.when = make('td');
    this.doors = make('td', { className: 'jg-Doors' });
    this.node = make(
      'tr',
      {},
      make('td', {}, this.check),
      make('th', { scope: 'row', textContent: data.student }),
      this.state,
      this.time,
      this.when,
      this.doors
    );
    this.update(data);
  }

  /** Show what is known now; what is the same stays untouched, and keeps its focus. */
  update(data) {
    const text = JSON.stringify(data);
    if (text === this.text) {
      return;
    }
    this.text = text;
    this.data = data;
    const sentence = make('span', { className: 'jg-Sentence', textContent: data.sentence });
    this.state.replaceChildren(chip(data.state), ...(data.sentence ? [sentence] : []));
    setText(this.time, data.seconds === null ? '' : duration(data.seconds));
    setText(this.when, data.changed ? moment.format(new Date(data.changed)) : '');
    this.updateDoors(data);
  }

  /** Show the buttons of what there is. */
  updateDoors(data) {
    const { assignment, student } = this.id;
    const result = data.changed !== null;
    const several = data.notebooks.length > 1;
    const doors = [];
    const door = (label, what, onclick) =>
      doors.push(
        make('button', {
          className: 'jg-Button',
          textContent: label,
          'aria-label': `${what} of ${student}`,
          onclick
        })
      );
    if (result) {
      door('Log', 'Open the log', () => this.actions.log(this.id));
    }
    for (const { name, path, page } of data.notebooks) {
      const of = several ? `: ${name}` : '';
      if (path !== null) {
        door(`Notebook${of}`, `Open the autograded notebook ${name}`, () =>
          this.actions.notebook(path)
        );
      }
      doors.push(
        make('a', {
          className: 'jg-Button',
          href: this.actions.page(page),
          target: '_blank',
          rel: 'noopener',
          textContent: `Formgrader${of} ↗`,
          'aria-label': `Open ${name} of ${student} in the formgrader, in a new browser tab`
        })
      );
    }
    if (!['queued', 'running'].includes(data.state)) {
      door(result ? 'Retry' : 'Grade', `Grade ${assignment}`, () =>
        this.actions.retry(this.id)
      );
    }
    const focused = [...this.doors.children].indexOf(document.activeElement);
    this.doors.replaceChildren(...doors);
    doors[focused]?.focus();
  }
}

/** The table, with a search box in front of it. */
export class Submissions {
  constructor(assignment, actions) {
    this.assignment = assignment;
    this.actions = actions;
    this.rows = new Map();
    this.shown = PAGE;
    const id = `jg-${crypto.randomUUID()}`;
    const refilter = () => {
      this.shown = PAGE;
      this.render();
    };
    this.search = make('input', {
      id: `${id}-search`,
      type: 'search',
      placeholder: 'Student',
      oninput: refilter
    });
    this.only = make(
      'select',
      { id: `${id}-state`, onchange: refilter },
      make('option', { value: '', textContent: 'all' }),
      ...STATES.map(state => make('option', { value: state, textContent: state }))
    );
    this.count = make('span', { className: 'jg-Quiet' });
    this.all = make('input', {
      type: 'checkbox',
      'aria-label': `Select all that are listed of ${assignment}`,
      onchange: () =>
        this.filtered().forEach(row => actions.select(row.id, this.all.checked))
    });
    this.body = make('tbody');
    this.more = make('button', {
      className: 'jg-Button',
      onclick: () => {
        this.shown += 10 * PAGE;
        this.render();
      }
    });
    const headings = ['Student', 'State', 'Time', 'Graded', 'Open'].map(text =>
      make('th', { scope: 'col', textContent: text })
    );
    this.node = make(
      'div',
      { className: 'jg-Submissions' },
      make(
        'div',
        { className: 'jg-Filter' },
        make('label', { for: `${id}-search`, textContent: 'Find' }),
        this.search,
        make('label', { for: `${id}-state`, textContent: 'State' }),
        this.only,
        this.count
      ),
      make(
        'table',
        { 'aria-label': `Submissions of ${assignment}` },
        make('thead', {}, make('tr', {}, make('th', {}, this.all), ...headings)),
        this.body
      ),
      this.more
    );
  }

  /** Take in what the server says of the submissions. */
  update(submissions) {
    const known = this.rows;
    this.rows = new Map(
      submissions.map(data => {
        const row = known.get(data.student);
        row?.update(data);
        return [data.student, row ?? new Row(this.assignment, data, this.actions)];
      })
    );
    this.render();
  }

  /** Return the rows that the search box and the chosen state let through. */
  filtered() {
    const text = this.search.value.trim().toLowerCase();
    const state = this.only.value;
    return [...this.rows.values()].filter(
      ({ data }) =>
        data.student.toLowerCase().includes(text) && (!state || data.state === state)
    );
  }

  render() {
    const found = this.filtered();
    const boxes = found.filter(row => {
      row.check.checked = this.actions.selected(row.id);
      return row.check.checked;
    });
    this.all.checked = found.length > 0 && boxes.length === found.length;
    this.all.indeterminate = boxes.length > 0 && !this.all.checked;
    arrange(this.body, found.slice(0, this.shown).map(row => row.node));
    setText(this.count, plural(found.length, 'submission'));
    this.more.hidden = found.length <= this.shown;
    setText(this.more, `Show more: ${found.length - this.shown} are not listed`);
  }
}
