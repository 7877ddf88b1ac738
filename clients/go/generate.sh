#!/bin/sh
# Writes watchword/ from query.proto. The plugins are those that go.mod pins; PROTOC names another protoc.
set -eu
package=watchword.example/search
exec ${PROTOC:-protoc} -I ../../proto/v1 \
  --plugin="protoc-gen-go=$(go tool -n protoc-gen-go)" \
  --plugin="protoc-gen-go-grpc=$(go tool -n protoc-gen-go-grpc)" \
  --go_out=. --go_opt="module=$package" --go_opt="Mquery.proto=$package/watchword" \
  --go-grpc_out=. --go-grpc_opt="module=$package" --go-grpc_opt="Mquery.proto=$package/watchword" \
  query.proto
