/** A set in which a member counts how often it was added. */
export class Counted<T> {
  readonly #counts = new Map<T, number>()

  add(member: T): void {
    this.#counts.set(member, (this.#counts.get(member) ?? 0) + 1)
  }

  drop(member: T): void {
    const count = (this.#counts.get(member) ?? 0) - 1
    if (count > 0) this.#counts.set(member, count)
    else this.#counts.delete(member)
  }

  members(): Iterable<T> {
    return this.#counts.keys()
  }

  has(member: T): boolean {
    return this.#counts.has(member)
  }
}
