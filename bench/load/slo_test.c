#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "load/slo.h"

static enum slo_verdict verdict(const char *text, double value)
{
    struct slo slo;
    struct err err = {""};
    if (slo_parse(text, &slo, &err) != 0) {
        fail_msg("%s", err.text);
    }
    struct slo_figure figure = {slo.name, value};
    return slo_check(&slo, &figure);
}

static void objectives_are_kept_or_missed_at_their_limit(void **state)
{
    (void)state;
    assert_int_equal(verdict("claim.p99_ms <= 5", 5), SLO_PASS);
    assert_int_equal(verdict("claim.p99_ms<=5", 5.001), SLO_FAIL);
    assert_int_equal(verdict("claim.p99_ms < 5", 5), SLO_FAIL);
    assert_int_equal(verdict("  lost == 0 ", 0), SLO_PASS);
    assert_int_equal(verdict("lost == 0", 1), SLO_FAIL);
    assert_int_equal(verdict("throughput_per_sec >= 1e3", 1000), SLO_PASS);
    assert_int_equal(verdict("throughput_per_sec > 1e3", 1000), SLO_FAIL);
    assert_int_equal(verdict("lost == 0", (double)NAN), SLO_UNKNOWN);
}

static void wrong_objectives_are_refused_with_an_example(void **state)
{
    (void)state;
    const char *wrong[] = {"",
                           "<= 5",
                           "claim.p99_ms",
                           "claim.p99_ms 5",
                           "a = 5",
                           "a <= five",
                           "a <= nan",
                           "a <= 5 ms",
                           "A.p99 < 5",
                           "a <=",
                           "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y < 1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct slo slo;
        struct err err = {""};
        assert_int_equal(slo_parse(wrong[i], &slo, &err), -EINVAL);
        assert_non_null(strstr(err.text, "write it like"));
    }
}

static void an_unknown_figure_is_answered_with_those_there_are(void **state)
{
    (void)state;
    struct slo_figure figures[] = {{"lost", 0}, {"claim.p99_ms", 1}};
    struct slo slo;
    const struct slo_figure *found = NULL;
    struct err err = {""};
    assert_int_equal(slo_parse("claim.p99_ms < 2", &slo, NULL), 0);
    assert_int_equal(slo_find(&slo, figures, 2, &found, &err), 0);
    assert_ptr_equal(found, &figures[1]);
    assert_int_equal(slo_parse("claim.p98_ms < 2", &slo, NULL), 0);
    assert_int_equal(slo_find(&slo, figures, 2, &found, &err), -ENOENT);
    assert_non_null(strstr(err.text, "lost claim.p99_ms"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objectives_are_kept_or_missed_at_their_limit),
        cmocka_unit_test(wrong_objectives_are_refused_with_an_example),
        cmocka_unit_test(an_unknown_figure_is_answered_with_those_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
