/* load_generator.h: generated load: gauges and counters that change slowly, as a steady scrape
 * gives them.
 *
 * Series i of n: name load.requests.<i % 10> (counter, int64) or load.level.<i % 10> (gauge,
 * double) in turn, three resource tags and six point tags, about 200 bytes a point in OTLP.
 * Everything is decided by the seed, so two runs send the same values.
 *
 * Threading: one thread.
 */
#ifndef TG_CLIENT_LOAD_GENERATOR_H
#define TG_CLIENT_LOAD_GENERATOR_H

#include "core/client/sender.h"

struct tg_load_generator;

/* TG_ERR_NOMEM; TG_ERR_INVALID when a series has no form in the protocol (our own bug). */
TG_MUST_CHECK enum tg_code tg_load_generator_new(uint32_t n_series, enum tg_send_protocol protocol,
                                                 uint64_t seed, struct tg_load_generator **out,
                                                 struct tg_err *err);
void tg_load_generator_free(struct tg_load_generator *l); /* NULL accepted */

/* Appends one request body of the next `n` points: series in turn; all points of one turn through
 * the series have the time `turn_ns(arg, turn)`. */
TG_MUST_CHECK enum tg_code tg_load_generator_body(struct tg_load_generator *l, uint32_t n,
                                                  int64_t (*turn_ns)(void *arg, uint64_t turn),
                                                  void *arg, struct tg_buf *out,
                                                  struct tg_err *err);

#endif
