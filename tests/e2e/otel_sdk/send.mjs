// Sends metrics through the real OpenTelemetry SDK (protobuf over HTTP, gzip) and prints each exported point as a JSON
// line, as the SDK itself sees it: the other side of the comparison.  node send.mjs URL
import { MeterProvider, PeriodicExportingMetricReader, DataPointType, View, ExponentialHistogramAggregation,
  InstrumentType } from '@opentelemetry/sdk-metrics';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { Resource } from '@opentelemetry/resources';

class Recording extends OTLPMetricExporter {
  export(metrics, done) {
    for (const scope of metrics.scopeMetrics)
      for (const m of scope.metrics) for (const p of m.dataPoints) print(metrics.resource, m, p);
    super.export(metrics, (r) => {
      if (r.code !== 0) { console.error(r.error); process.exitCode = 1; }
      done(r);
    });
  }
}

function print(resource, metric, point) {
  const kinds = { [DataPointType.GAUGE]: 'gauge', [DataPointType.SUM]: metric.isMonotonic ? 'counter' : 'gauge',
    [DataPointType.HISTOGRAM]: 'histogram', [DataPointType.EXPONENTIAL_HISTOGRAM]: 'exponential_histogram' };
  const kind = kinds[metric.dataPointType];
  const row = { name: metric.descriptor.name, kind, unit: metric.descriptor.unit || undefined,
    time: (BigInt(point.endTime[0]) * 1000000000n + BigInt(point.endTime[1])).toString(),
    tags: { ...resource.attributes, ...point.attributes } };
  row.tags.service_name = row.tags['service.name'];
  for (const k in row.tags) row.tags[k] = String(row.tags[k]);
  const v = point.value;
  if (kind === 'histogram') {
    Object.assign(row, { count: String(v.count), sum: v.sum, bounds: v.buckets.boundaries,
      bucket_counts: v.buckets.counts.map(String) });
  } else if (kind === 'exponential_histogram') {
    Object.assign(row, { count: String(v.count), sum: v.sum });
  } else if (metric.descriptor.valueType === 0) {
    row.value_int = String(v);
  } else {
    row.value = v;
  }
  console.log(JSON.stringify(row));
}

const reader = new PeriodicExportingMetricReader({
  exporter: new Recording({ url: process.argv[2], compression: 'gzip' }), exportIntervalMillis: 3600000 });
const provider = new MeterProvider({
  resource: new Resource({ 'service.name': 'shop', 'host.name': 'web-1', 'process.pid': 4711 }), readers: [reader],
  views: [new View({ instrumentName: 'latency.exp', instrumentType: InstrumentType.HISTOGRAM,
    aggregation: new ExponentialHistogramAggregation(40) })] });
const meter = provider.getMeter('e2e', '1.2.3');
const orders = meter.createCounter('orders', { unit: '{order}', valueType: 0 });
const stock = meter.createUpDownCounter('stock', { valueType: 1 });
const latency = meter.createHistogram('latency', { unit: 'ms', advice: { explicitBucketBoundaries: [1, 5, 10, 100] } });
const exp = meter.createHistogram('latency.exp', { unit: 'ms' });
const temp = meter.createObservableGauge('room.temperature', { unit: 'Cel', valueType: 1 });
let round = 0;
temp.addCallback((r) => { r.observe(20.25 + round, { room: 'attic' }); r.observe(-3.5, { room: 'cellar', 'ünï': 'cödé' }); });
for (round = 0; round < 4; round++) {
  for (const country of ['de', 'fr', 'is']) orders.add(3 + round, { country, paid: true, items: 2 });
  stock.add(-1.5, { shelf: 'a' });
  for (const v of [0.5, 3, 7, 50, 1000 + round]) { latency.record(v, { route: '/' }); exp.record(v, { route: '/' }); }
  await provider.forceFlush();
}
await provider.shutdown();
