/* TLS for connections to Redis, by OpenSSL: the one door to it. A library of its own, so that
 * programs of the library codeq that speak plain Redis do not load OpenSSL.
 *
 * One context serves all connections of a process, from any thread; it must outlive them. SIGPIPE
 * must be ignored: OpenSSL writes to a socket that may be gone. */
#pragma once

#include "base/err.h"
#include "store/conn.h"

enum tls_verify {
    TLS_VERIFY_FULL, /* signed by an authority that is trusted, for the host that was asked for */
    TLS_VERIFY_CHAIN, /* signed so, for whatever host */
    TLS_VERIFY_NONE, /* anybody: for experiments */
};

struct tls_options {
    const char *ca_file; /* PEM; NULL: the authorities that this system trusts */
    const char *cert_file; /* PEM, of this client, with its chain; NULL: none */
    const char *key_file; /* PEM; both or none */
    enum tls_verify verify;
};

/* For conn_options.tls and store_options.tls. NULL with text that names the file. */
const struct conn_tls *tls_new(const struct tls_options *options, struct err *err);
void tls_free(const struct conn_tls *tls); /* NULL is fine */
