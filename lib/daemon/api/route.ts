/** A row of the API's table: what it is called, what it takes, what it does. An OpenAPI file can be made of them. */
import type { z } from 'zod'
import type { Control } from '../control.js'

export type Method = 'GET' | 'PUT' | 'POST' | 'DELETE'

/** 200 with a body, or 204 without one. */
export interface Answer {
  readonly body?: object
  /** Done once the answer is on its way. */
  readonly afterwards?: () => void
}

export interface Input<B> {
  readonly control: Control
  /** Decoded query values by name; the declared `required` ones are there. */
  readonly query: Readonly<Record<string, string | undefined>>
  readonly body: B
}

export interface QueryValue {
  readonly required?: boolean
  readonly help: string
}

export interface Route<B = unknown> {
  readonly method: Method
  readonly path: string
  readonly summary: string
  /** Wraps the cause in error texts: `Mount(…)`. */
  readonly operation: string
  readonly query?: Readonly<Record<string, QueryValue>>
  /** Loaded when the first such body comes. Without it the request has none. */
  readonly body?: () => Promise<z.ZodType<B>>
  /** Takes the request only when this holds; several rows may share method and path. */
  readonly when?: (query: URLSearchParams) => boolean
  readonly handle: (input: Input<B>) => Answer | Promise<Answer>
}

/** Fixes the body's type within a row, and forgets it in the table. */
export function route<B>(row: Route<B>): Route {
  return row as Route
}

export const done: Answer = {}
