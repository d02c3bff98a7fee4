// The other side of hist_cli_test.c: HdrHistogram's own JavaScript port reads what we wrote, and
// writes what we read. stdin: one JSON object {"encoded": [...], "quantiles": [...], "record": [...]};
// stdout: what the reference makes of it. Counts are asked for value by value.
"use strict";
const hdr = require("hdr-histogram-js");
const input = JSON.parse(require("fs").readFileSync(0, "utf8"));

function describe(histogram, quantiles) {
  const buckets = [];
  const iterator = histogram.recordedValuesIterator;
  iterator.reset();
  while (iterator.hasNext()) {
    const step = iterator.next();
    buckets.push([
      histogram.lowestEquivalentValue(step.valueIteratedTo),
      histogram.highestEquivalentValue(step.valueIteratedTo),
      step.countAddedInThisIterationStep,
    ]);
  }
  return {
    total: histogram.totalCount,
    max: histogram.maxValue,
    mean: histogram.mean,
    digits: histogram.numberOfSignificantValueDigits,
    lowest: histogram.lowestDiscernibleValue,
    highest: histogram.highestTrackableValue,
    quantiles: quantiles.map((p) => histogram.getValueAtPercentile(p * 100)),
    buckets,
  };
}

const decoded = input.encoded.map((text) =>
  describe(hdr.decodeFromCompressedBase64(text, 64, false), input.quantiles));

const encoded = input.record.map((wanted) => {
  const histogram = hdr.build({
    bitBucketSize: 64,
    autoResize: false,
    lowestDiscernibleValue: wanted.lowest,
    highestTrackableValue: wanted.highest,
    numberOfSignificantValueDigits: wanted.digits,
    useWebAssembly: false,
  });
  for (const [value, count] of wanted.values) {
    histogram.recordValueWithCount(value, count);
  }
  return {
    text: hdr.encodeIntoCompressedBase64(histogram),
    ...describe(histogram, input.quantiles),
  };
});

process.stdout.write(JSON.stringify({ decoded, encoded }));
