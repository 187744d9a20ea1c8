/** What has to be undone at the end, the latest first; one that fails does not keep the others from it. */
export class Ends {
  readonly #ends: (() => unknown)[] = []
  onError: (error: unknown) => void = () => {}

  add(end: () => unknown): void {
    this.#ends.push(end)
  }

  async run(): Promise<void> {
    for (let end = this.#ends.pop(); end !== undefined; end = this.#ends.pop())
      try {
        await end()
      } catch (error) {
        this.onError(error)
      }
  }
}
