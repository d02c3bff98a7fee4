#include "service/fetch.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>
#include <ev.h>

#include "base/buf.h"
#include "base/clock.h"
#include "service/address.h"

#define CONNECTIONS_KEPT_MAX 32

struct transfer {
    struct fetch *fetch;
    struct transfer *next;
    struct transfer **previous;
    CURL *easy;
    struct curl_slist *headers;
    struct buf body;
    bool truncated;
    bool refused; /* an address was */
    fetch_fn *done;
    void *arg;
    char error[CURL_ERROR_SIZE];
};

struct fetch {
    struct fetch_options options;
    CURLM *multi;
    ev_timer timer;
    struct transfer *transfers;
    size_t count;
};

struct watch {
    ev_io io;
    struct fetch *fetch;
};

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void transfer_free(struct transfer *transfer)
{
    *transfer->previous = transfer->next;
    if (transfer->next != NULL) {
        transfer->next->previous = transfer->previous;
    }
    transfer->fetch->count--;
    curl_multi_remove_handle(transfer->fetch->multi, transfer->easy);
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    buf_fini(&transfer->body);
    free(transfer);
}

static void finish(struct transfer *transfer, CURLcode code)
{
    struct fetch_result result = {.text = ""};
    long status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &retry_after);
    bool answered = code == CURLE_OK || (code == CURLE_WRITE_ERROR && transfer->truncated);
    if (answered && status >= 100) {
        result.outcome = FETCH_ANSWERED;
        result.status = (int)status;
        result.body = transfer->body.data != NULL ? transfer->body.data : "";
        result.body_bytes = transfer->body.bytes;
        result.truncated = transfer->truncated;
        result.retry_after_ns =
            retry_after > 0 && retry_after < 86400 * 365 ? retry_after * NS_PER_SEC : 0;
    } else {
        result.outcome = transfer->refused ? FETCH_REFUSED : FETCH_FAILED;
        result.text = transfer->refused            ? "the target's address is not public"
                      : transfer->error[0] != '\0' ? transfer->error
                                                   : curl_easy_strerror(code);
    }
    transfer->done(transfer->arg, &result);
    transfer_free(transfer);
}

static void collect(struct fetch *fetch)
{
    int left = 0;
    for (CURLMsg *message; (message = curl_multi_info_read(fetch->multi, &left)) != NULL;) {
        if (message->msg == CURLMSG_DONE) {
            struct transfer *transfer = NULL;
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
            finish(transfer, code);
        }
    }
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    struct fetch *fetch = ((struct watch *)io->data)->fetch;
    int running = 0;
    int bits = ((events & EV_READ) != 0 ? CURL_CSELECT_IN : 0) |
               ((events & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(fetch->multi, io->fd, bits, &running);
    collect(fetch);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct fetch *fetch = timer->data;
    int running = 0;
    curl_multi_socket_action(fetch->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(fetch);
}

static int set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct fetch *fetch = arg;
    ev_timer_stop(fetch->options.loop, &fetch->timer);
    if (timeout_ms >= 0) {
        /* Never from inside curl: 0 ms is "soon". */
        ev_timer_set(&fetch->timer, (double)timeout_ms / 1000.0, 0.0);
        ev_timer_start(fetch->options.loop, &fetch->timer);
    }
    return 0;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    (void)easy;
    struct fetch *fetch = arg;
    struct watch *watch = socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            ev_io_stop(fetch->options.loop, &watch->io);
            curl_multi_assign(fetch->multi, fd, NULL);
            free(watch);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = must(calloc(1, sizeof *watch));
        watch->fetch = fetch;
        watch->io.data = watch;
        ev_init(&watch->io, on_io);
        curl_multi_assign(fetch->multi, fd, watch);
    }
    ev_io_stop(fetch->options.loop, &watch->io);
    ev_io_set(&watch->io, fd,
              (what != CURL_POLL_OUT ? EV_READ : 0) | (what != CURL_POLL_IN ? EV_WRITE : 0));
    watch->io.data = watch;
    ev_io_start(fetch->options.loop, &watch->io);
    return 0;
}

/* The address is the one that connect is called with next. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    struct transfer *transfer = arg;
    if (!transfer->fetch->options.allow_private && !address_is_public(&address->addr)) {
        transfer->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;
    size_t bytes = size * count;
    size_t room = transfer->fetch->options.body_bytes_max - transfer->body.bytes;
    size_t take = bytes < room ? bytes : room;
    buf_append(&transfer->body, data, take);
    transfer->truncated = transfer->truncated || take < bytes;
    return take == bytes ? bytes : 0; /* 0 of more: curl ends the transfer */
}

struct fetch *fetch_new(const struct fetch_options *options, struct err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        err_set(err, -ENOMEM, "libcurl does not start");
        return NULL;
    }
    struct fetch *fetch = must(calloc(1, sizeof *fetch));
    fetch->options = *options;
    fetch->multi = must(curl_multi_init());
    ev_init(&fetch->timer, on_timer);
    fetch->timer.data = fetch;
    curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETDATA, fetch);
    curl_multi_setopt(fetch->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(fetch->multi, CURLMOPT_TIMERDATA, fetch);
    curl_multi_setopt(fetch->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT_MAX);
    return fetch;
}

void fetch_free(struct fetch *fetch)
{
    if (fetch == NULL) {
        return;
    }
    while (fetch->transfers != NULL) {
        struct transfer *transfer = fetch->transfers;
        const struct fetch_result result = {.outcome = FETCH_CANCELLED, .text = "stopped"};
        transfer->done(transfer->arg, &result);
        transfer_free(transfer);
    }
    ev_timer_stop(fetch->options.loop, &fetch->timer);
    curl_multi_cleanup(fetch->multi);
    free(fetch);
    curl_global_cleanup();
}

size_t fetch_in_flight(const struct fetch *fetch)
{
    return fetch->count;
}

/* A part of the URL; NULL when absent. The caller frees it with curl_free. */
static char *part(CURLU *url, CURLUPart which)
{
    char *text = NULL;
    return curl_url_get(url, which, &text, 0) == CURLUE_OK ? text : NULL;
}

int fetch_check_url(const char *url, struct err *err)
{
    if (strlen(url) > FETCH_URL_BYTES_MAX) {
        return err_set(err, -EINVAL, "URL longer than %d bytes", FETCH_URL_BYTES_MAX);
    }
    for (const char *p = url; *p != '\0'; p++) {
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f) {
            return err_set(err, -EINVAL, "URL holds a character that must be escaped");
        }
    }
    CURLU *parts = must(curl_url());
    const char *why = NULL;
    char *scheme = NULL;
    char *host = NULL;
    char *user = NULL;
    char *password = NULL;
    if (curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK) {
        why = "not a URL";
    } else {
        scheme = part(parts, CURLUPART_SCHEME);
        host = part(parts, CURLUPART_HOST);
        user = part(parts, CURLUPART_USER);
        password = part(parts, CURLUPART_PASSWORD);
        if (scheme == NULL || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
            why = "URL is not http:// or https://";
        } else if (host == NULL || host[0] == '\0') {
            why = "URL has no host";
        } else if (user != NULL || password != NULL) {
            why = "URL carries a user or password";
        }
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(user);
    curl_free(password);
    curl_url_cleanup(parts);
    return why == NULL ? 0 : err_set(err, -EINVAL, "%s", why);
}

bool fetch_host(const char *url, char *out, size_t bytes)
{
    CURLU *parts = must(curl_url());
    char *host = curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK
                     ? part(parts, CURLUPART_HOST)
                     : NULL;
    bool fits = host != NULL && strlen(host) < bytes;
    for (size_t i = 0; fits && i <= strlen(host); i++) {
        out[i] = (char)tolower((unsigned char)host[i]);
    }
    curl_free(host);
    curl_url_cleanup(parts);
    return fits;
}

int fetch_start(struct fetch *fetch, const struct fetch_request *request, fetch_fn *done, void *arg,
                struct err *err)
{
    int code = fetch_check_url(request->url, err);
    if (code != 0) {
        return code;
    }
    if (fetch->count >= fetch->options.in_flight_max) {
        return err_set(err, -EAGAIN, "%zu requests are on their way", fetch->count);
    }
    struct transfer *transfer = must(calloc(1, sizeof *transfer));
    CURL *easy = must(curl_easy_init());
    *transfer = (struct transfer){.fetch = fetch, .easy = easy, .done = done, .arg = arg};
    for (size_t i = 0; i < FETCH_HEADERS_MAX && request->headers[i] != NULL; i++) {
        transfer->headers = must(curl_slist_append(transfer->headers, request->headers[i]));
    }
    /* Without it curl waits a second for "100 Continue" before it sends a body above 1 MiB. */
    transfer->headers = must(curl_slist_append(transfer->headers, "Expect:"));
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "codeqd/" CODEQ_VERSION);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(request->timeout_ns / NS_PER_MS));
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    if (request->body != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes);
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body);
    }
    transfer->next = fetch->transfers;
    transfer->previous = &fetch->transfers;
    if (transfer->next != NULL) {
        transfer->next->previous = &transfer->next;
    }
    fetch->transfers = transfer;
    fetch->count++;
    CURLMcode added = curl_multi_add_handle(fetch->multi, easy);
    if (added != CURLM_OK) {
        transfer_free(transfer);
        return err_set(err, -ENOMEM, "%s", curl_multi_strerror(added));
    }
    return 0;
}
