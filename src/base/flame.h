/* Flame graphs as one SVG file that needs nothing else: a script of its own zooms and searches.
 *
 * Roots are at the bottom, as wide as their value; equal sets of stacks give equal bytes. In a
 * browser a click zooms in, Escape or a click on the lowest bar zooms out, the field at the top
 * marks frames whose name contains its text and says what share they have. Viewers without scripts
 * show the picture. It can also be pasted into an HTML page, several times over. Any thread. */
#pragma once

#include "base/buf.h"
#include "base/stacks.h"

struct flame_options {
    const char *title;
    const char *unit; /* "instructions", "samples", "bytes" */
    double ops; /* values are shown divided by this ("per op"); 0: shown as they are */
};

/* Append the flame graph of stacks (sorted by this) to out. Frames below a tenth of a pixel are
 * left out; they are counted in the footer. Colours follow the name alone. An empty set gives a
 * picture that says so. */
void flame_print(struct stacks *stacks, const struct flame_options *options, struct buf *out);

/* The difference. A frame is as wide as the mean of before and after, so that what is gone and what
 * is new both show; red has grown, blue has shrunk, grey is as it was; the shade follows the change
 * of the frame's own value, the largest change being darkest. options->ops divides `before`,
 * after_ops `after`; give both or neither. */
void flame_print_diff(struct stacks *before, struct stacks *after,
                      const struct flame_options *options, double after_ops, struct buf *out);
