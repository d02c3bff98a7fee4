/* The fixed parts of a report's page, put into the program at build time by embed.py. */
#pragma once

extern const char page_css[];
extern const char page_js[];
extern const char page_flame_js[];
extern const char page_uplot_js[]; /* "" when this build has no uPlot */
extern const char page_uplot_css[];
extern const char page_uplot_licence[];
