/* An outgoing stream to a remote domain: finding its server, TLS, proof by SASL EXTERNAL or dialback, then
 * stanzas; keys of incoming streams are verified over it too. */
#ifndef JACKDAW_S2S_OUT_H
#define JACKDAW_S2S_OUT_H

struct out;
struct remote;

/* Begins; domain_out_lost ends it. */
struct out *out_start(struct remote *r);

/* There is something new to prove or to verify. */
void out_poke(struct out *o);

/* Forgets one at the end of the process; nothing is told. */
void out_forget(struct out *o);

#endif
