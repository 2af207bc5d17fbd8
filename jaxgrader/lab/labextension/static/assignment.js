/* An assignment: a row of counts, and below it, unfolded, its submissions. */
import { make, setText } from './dom.js';
import { STATES, Submissions } from './submissions.js';

export class Assignment {
  /** Return the heading of the columns. */
  static heading() {
    const titles = ['Assignment', 'submitted', ...STATES];
    return make(
      'thead',
      {},
      make(
        'tr',
        {},
        make('td'),
        ...titles.map(text => make('th', { scope: 'col', textContent: text }))
      )
    );
  }

  constructor(name, actions) {
    this.name = name;
    this.actions = actions;
    this.data = { counts: {} };
    this.whole = false;
    this.students = new Set();
    this.table = null;
    this.check = make('input', {
      type: 'checkbox',
      'aria-label': `Select ${name}`,
      onchange: () => this.selectAll(this.check.checked)
    });
    this.fold = make('button', {
      className: 'jg-Fold',
      'aria-expanded': 'false',
      textContent: name,
      onclick: () => this.toggle()
    });
    this.bar = make('div', { className: 'jg-Bar', 'aria-hidden': 'true' });
    this.cells = new Map(
      ['submitted', ...STATES].map(state => [state, make('td', { className: 'jg-mod-number' })])
    );
    const row = make(
      'tr',
      {},
      make('td', {}, this.check),
      make('th', { scope: 'row' }, this.fold, this.bar),
      ...this.cells.values()
    );
    this.inside = make('td', { colSpan: 2 + this.cells.size });
    this.below = make('tr', { className: 'jg-Below', hidden: true }, this.inside);
    this.node = make('tbody', {}, row, this.below);
  }

  /** Take in the counts that the server says; ask for the submissions if they changed. */
  update(data) {
    const same = data.version === this.data.version;
    this.data = data;
    if (same) {
      return;
    }
    setText(this.cells.get('submitted'), String(this.count(null, true)));
    const parts = STATES.map(state => {
      const count = data.counts[state] ?? 0;
      setText(this.cells.get(state), String(count || ''));
      const part = make('span', { className: `jg-mod-${state.replaceAll(' ', '-')}` });
      part.style.flexGrow = String(count);
      return part;
    });
    this.bar.replaceChildren(...parts);
    if (!this.below.hidden) {
      void this.load();
    }
  }

  /** Return how many submissions are in one of some states (null: in any). */
  count(states, all = this.students.size === 0 || this.whole) {
    if (all) {
      return Object.entries(this.data.counts)
        .filter(([state]) => states === null || states.includes(state))
        .reduce((sum, [, count]) => sum + count, 0);
    }
    return [...this.students].filter(student => {
      const row = this.table?.rows.get(student);
      return row && (states === null || states.includes(row.data.state));
    }).length;
  }

  /** Return what is selected, as an order to the server names it. */
  order() {
    if (this.whole) {
      return [{ assignment: this.name }];
    }
    return [...this.students].map(student => ({ assignment: this.name, student }));
  }

  selectAll(on) {
    this.whole = on;
    this.students.clear();
    this.showSelection();
  }

  select({ student }, on) {
    const names = [...this.table.rows.keys()];
    if (this.whole) {
      this.students = new Set(names);
    }
    this.students[on ? 'add' : 'delete'](student);
    this.whole = this.students.size === names.length;
    this.showSelection();
  }

  showSelection() {
    this.check.checked = this.whole;
    this.check.indeterminate = !this.whole && this.students.size > 0;
    this.table?.render();
    this.actions.changed();
  }

  /** Show the submissions, or hide them. */
  async toggle() {
    const open = this.below.hidden;
    this.below.hidden = !open;
    this.fold.setAttribute('aria-expanded', String(open));
    if (open) {
      await this.load();
    }
  }

  async load() {
    let found;
    try {
      found = (await this.actions.submissions(this.name)).submissions;
    } catch (error) {
      this.actions.complain(error.message);
      return;
    }
    if (this.table === null) {
      this.table = new Submissions(this.name, {
        ...this.actions,
        select: (id, on) => this.select(id, on),
        selected: ({ student }) => this.whole || this.students.has(student)
      });
      this.inside.replaceChildren(this.table.node);
    }
    this.table.update(found);
    this.actions.changed();
  }
}
