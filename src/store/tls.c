#include "store/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define REASON_BYTES 256

struct tls {
    struct conn_tls door; /* the first: what the caller holds */
    SSL_CTX *context;
    enum tls_verify verify;
};

/* What OpenSSL says of the last failure of this thread; its queue is empty then. */
static const char *reason(char out[REASON_BYTES])
{
    unsigned long code = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(code);
    snprintf(out, REASON_BYTES, "%s", text != NULL ? text : "no reason given");
    ERR_clear_error();
    return out;
}

static void *begin(void *arg, int fd, const char *host)
{
    const struct tls *tls = arg;
    SSL *ssl = SSL_new(tls->context);
    /* A certificate names hosts or addresses; a name is also told to the server (SNI). */
    unsigned char address[sizeof(struct in6_addr)];
    bool named = inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1;
    bool good = ssl != NULL && SSL_set_fd(ssl, fd) == 1 &&
                (!named || SSL_set_tlsext_host_name(ssl, host) == 1);
    if (good && tls->verify == TLS_VERIFY_FULL) {
        good = named ? SSL_set1_host(ssl, host) == 1
                     : X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    if (!good) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

static int handshake(void *session, struct err *err)
{
    ERR_clear_error();
    int done = SSL_do_handshake(session);
    if (done == 1) {
        return 0;
    }
    char why[REASON_BYTES];
    int saved = errno;
    switch (SSL_get_error(session, done)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        return err_set(err, -ECONNRESET, "%s",
                       saved != 0 ? strerror(saved) : "closed by the server");
    default:
        break;
    }
    long verified = SSL_get_verify_result(session);
    if (verified != X509_V_OK) {
        ERR_clear_error();
        return err_set(err, -EACCES, "the server's certificate: %s",
                       X509_verify_cert_error_string(verified));
    }
    reason(why);
    bool plain = strcmp(why, "wrong version number") == 0;
    return err_set(err, -EPROTO, "%s%s", why,
                   plain ? ": does this port speak TLS? Give redis:// where it does not" : "");
}

/* As recv and send say it. */
static ssize_t ended(SSL *ssl, int n)
{
    int saved = errno;
    switch (SSL_get_error(ssl, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        errno = saved != 0 ? saved : ECONNRESET;
        return -1;
    default:
        break;
    }
    unsigned long code = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(code); /* lives as long as the process */
    bool silent = text == NULL || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
    SSL_set_app_data(ssl, (void *)(uintptr_t)text);
    ERR_clear_error();
    errno = silent ? ECONNRESET : EPROTO; /* gone without a word, or with an alert */
    return -1;
}

static const char *why_broken(const void *session)
{
    const char *text = SSL_get_app_data((const SSL *)session);
    return text != NULL ? text : "no reason given";
}

static ssize_t read_bytes(void *session, void *data, size_t bytes)
{
    ERR_clear_error();
    int n = SSL_read(session, data, bytes < INT32_MAX ? (int)bytes : INT32_MAX);
    return n > 0 ? n : ended(session, n);
}

static ssize_t write_bytes(void *session, const void *data, size_t bytes)
{
    ERR_clear_error();
    int n = SSL_write(session, data, bytes < INT32_MAX ? (int)bytes : INT32_MAX);
    if (n > 0) {
        return n;
    }
    ssize_t code = ended(session, n);
    if (code == 0) {
        errno = EPIPE;
        code = -1;
    }
    if (errno == ECONNRESET || errno == EPIPE) { /* an alert may have come before the end */
        int saved = errno;
        char byte;
        n = SSL_read(session, &byte, 1);
        if (n > 0 || ended(session, n) == 0 || errno != EPROTO) {
            errno = saved;
        }
    }
    return code;
}

static bool wants_write(const void *session)
{
    return SSL_want_write((const SSL *)session);
}

static void end(void *session)
{
    if (SSL_is_init_finished(session)) {
        SSL_shutdown(session); /* a word of farewell, if there is room for it */
    }
    SSL_free(session);
    ERR_clear_error();
}

const struct conn_tls *tls_new(const struct tls_options *options, struct err *err)
{
    char why[REASON_BYTES];
    struct tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *context = tls != NULL ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (context == NULL) {
        err_set(err, -ENOMEM, "TLS: %s", tls == NULL ? "out of memory" : reason(why));
        goto fail;
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context,
                        SSL_OP_NO_RENEGOTIATION); /* writing then never waits for reading */
    /* A request may be sent in parts, from a buffer that has moved since the last try. */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(
        context, options->verify == TLS_VERIFY_NONE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (options->ca_file != NULL
            ? SSL_CTX_load_verify_locations(context, options->ca_file, NULL) != 1
            : SSL_CTX_set_default_verify_paths(context) != 1) {
        err_set(err, -EINVAL, "redis_tls_ca_file: %s: %s",
                options->ca_file != NULL ? options->ca_file : "the system's certificates",
                reason(why));
        goto fail;
    }
    if ((options->cert_file == NULL) != (options->key_file == NULL)) {
        err_set(err, -EINVAL, "redis_tls_cert_file, redis_tls_key_file: give both or none");
        goto fail;
    }
    if (options->cert_file != NULL &&
        SSL_CTX_use_certificate_chain_file(context, options->cert_file) != 1) {
        err_set(err, -EINVAL, "redis_tls_cert_file: %s: %s", options->cert_file, reason(why));
        goto fail;
    }
    if (options->key_file != NULL &&
        (SSL_CTX_use_PrivateKey_file(context, options->key_file, SSL_FILETYPE_PEM) != 1 ||
         SSL_CTX_check_private_key(context) != 1)) {
        err_set(err, -EINVAL, "redis_tls_key_file: %s: %s", options->key_file, reason(why));
        goto fail;
    }
    *tls = (struct tls){
        .door = {tls, begin, handshake, read_bytes, write_bytes, wants_write, end, why_broken},
        .context = context,
        .verify = options->verify,
    };
    return &tls->door;
fail:
    SSL_CTX_free(context);
    free(tls);
    return NULL;
}

void tls_free(const struct conn_tls *door)
{
    if (door != NULL) {
        struct tls *tls = door->arg;
        SSL_CTX_free(tls->context);
        free(tls);
    }
}
