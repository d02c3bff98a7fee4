#include "service/jwks_refresh.h"

#include <stdint.h>
#include <stdlib.h>

#include <ev.h>

#include "base/log.h"
#include "service/fetch.h"
#include "service/jwt.h"

#define FETCHES_MAX (2 * AUTH_PROVIDERS_MAX)
#define LOOK_SECONDS \
    0.05 /* how soon an unknown key's wish is noticed; only where keys have a URL */

struct fetching {
    struct jwks_refresh *refresh;
    size_t number;
    const char *url;
};

struct jwks_refresh {
    struct ev_loop *loop;
    struct auth *auth;
    struct clock *clock;
    struct metrics *metrics;
    struct fetch *fetch;
    ev_timer timer;
    bool stopping;
    struct fetching slots[FETCHES_MAX];
};

static void on_answer(void *arg, const struct fetch_result *result)
{
    struct fetching *fetching = arg;
    struct jwks_refresh *refresh = fetching->refresh;
    struct err err = {""};
    bool good = result->outcome == FETCH_ANSWERED && result->status == 200 && !result->truncated;
    if (refresh->stopping) {
        return;
    }
    int code = auth_fetch_done(refresh->auth, fetching->number, good ? result->body : NULL,
                               good ? result->body_bytes : 0, &err);
    if (good && code == 0) {
        metrics_count(refresh->metrics, METRICS_KEYS_FETCHED, 1);
        log_event(LOG_LEVEL_DEBUG, "keys_fetched", "url", fetching->url, NULL);
    } else {
        metrics_count(refresh->metrics, METRICS_KEYS_FAILED, 1);
        log_event(LOG_LEVEL_WARN, "keys_not_fetched", "url", fetching->url, "why",
                  code != 0                           ? err.text
                  : result->outcome == FETCH_ANSWERED ? "answered with another status than 200, "
                                                        "or with too much"
                                                      : result->text,
                  NULL);
    }
}

static void look(struct jwks_refresh *refresh)
{
    struct auth_fetch wanted;
    while (auth_fetch_next(refresh->auth, &wanted)) {
        struct fetching *fetching = &refresh->slots[wanted.number % FETCHES_MAX];
        *fetching = (struct fetching){refresh, wanted.number, wanted.url};
        const struct fetch_request request = {.url = wanted.url, .timeout_ns = wanted.timeout_ns};
        struct err err = {""};
        if (fetch_start(refresh->fetch, &request, on_answer, fetching, &err) != 0) {
            log_event(LOG_LEVEL_WARN, "keys_not_fetched", "url", wanted.url, "why", err.text, NULL);
            metrics_count(refresh->metrics, METRICS_KEYS_FAILED, 1);
            auth_fetch_done(refresh->auth, wanted.number, NULL, 0, NULL);
        }
    }
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct jwks_refresh *refresh = timer->data;
    if (auth_fetch_due_ns(refresh->auth) <= clock_monotonic_ns(refresh->clock)) {
        look(refresh);
    }
}

struct jwks_refresh *jwks_refresh_new(struct ev_loop *loop, struct auth *auth, struct clock *clock,
                                      struct metrics *metrics, struct err *err)
{
    /* Where the operator's own key server stands is the operator's business. */
    const struct fetch_options options = {.loop = loop,
                                          .allow_private = true,
                                          .in_flight_max = FETCHES_MAX,
                                          .body_bytes_max = JWT_KEYS_TEXT_BYTES_MAX};
    struct fetch *fetch = fetch_new(&options, err);
    struct jwks_refresh *refresh = fetch != NULL ? calloc(1, sizeof *refresh) : NULL;
    if (refresh == NULL) {
        fetch_free(fetch);
        return NULL;
    }
    refresh->loop = loop;
    refresh->auth = auth;
    refresh->clock = clock;
    refresh->metrics = metrics;
    refresh->fetch = fetch;
    look(refresh);
    ev_timer_init(&refresh->timer, on_timer, LOOK_SECONDS, LOOK_SECONDS);
    refresh->timer.data = refresh;
    if (auth_fetch_due_ns(auth) != INT64_MAX || fetch_in_flight(fetch) > 0) {
        ev_timer_start(loop, &refresh->timer); /* no keys to look after: no timer */
    }
    return refresh;
}

void jwks_refresh_free(struct jwks_refresh *refresh)
{
    if (refresh == NULL) {
        return;
    }
    refresh->stopping = true;
    ev_timer_stop(refresh->loop, &refresh->timer);
    fetch_free(refresh->fetch);
    free(refresh);
}
