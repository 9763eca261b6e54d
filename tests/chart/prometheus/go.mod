// Where the tests of the chart find what the Prometheus operator publishes; nothing is built.
module testchart

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
