import { button, element, setText } from './element.js';

export interface TokenQuestion {
  readonly title: string;
  readonly words: string;
  /** What shows the token when it is typed into a terminal, where that is known. */
  readonly command: string | undefined;
  /** Undefined when the token is taken, else what to say. */
  take(token: string): Promise<string | undefined>;
}

/** Asks for a token. */
export class TokenDialog {
  readonly node: HTMLDialogElement;
  readonly #title = element('h2', { id: 'token-title' });
  readonly #words = element('p');
  readonly #command = element('code', { class: 'command' });
  readonly #input = element('input', {
    id: 'token',
    type: 'password',
    autocomplete: 'off',
    spellcheck: 'false',
    'aria-describedby': 'token-problem',
  });
  readonly #problem = element('p', { id: 'token-problem', class: 'problem', role: 'alert' });
  #question: TokenQuestion | undefined;
  #closed: (() => void) | undefined;

  constructor() {
    const submit = element('button', { type: 'submit', class: 'button primary' }, 'Unlock');
    const form = element(
      'form',
      {},
      this.#title,
      this.#words,
      this.#command,
      element('label', { for: 'token' }, 'Token'),
      this.#input,
      this.#problem,
      element(
        'div',
        { class: 'dialog-buttons' },
        button('Cancel', 'plain', () => this.node.close()),
        submit,
      ),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.node = element('dialog', { class: 'dialog', 'aria-labelledby': 'token-title' }, form);
    this.node.addEventListener('close', () => {
      this.#input.value = '';
      this.#closed?.();
      this.#closed = undefined;
    });
  }

  /** Resolves when it is closed again, with a token that was taken or without. */
  ask(question: TokenQuestion): Promise<void> {
    this.#question = question;
    setText(this.#title, question.title);
    setText(this.#words, question.words);
    setText(this.#command, question.command ?? '');
    this.#command.hidden = question.command === undefined;
    setText(this.#problem, '');
    if (!this.node.open) this.node.showModal();
    this.#input.focus();
    return new Promise((resolve) => {
      const before = this.#closed;
      this.#closed = () => {
        before?.();
        resolve();
      };
    });
  }

  async #submit(): Promise<void> {
    const problem = await this.#question?.take(this.#input.value.trim());
    setText(this.#problem, problem ?? '');
    if (problem === undefined) this.node.close();
    else this.#input.select();
  }
}
