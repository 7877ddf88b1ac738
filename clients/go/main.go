// Asks a running Watchword in plain words, with nothing of Watchword but its .proto file.
//
//	./search HOST:PORT "words"
//
// Prints one line per hit, best first: confidence in percent, camera, start, end, moment id, kind of object. Says on
// standard error when no hit is sure, or when not everything was searched. WATCHWORD_TOKEN is sent as the token, and
// WATCHWORD_CA names the PEM file of the root for TLS; without it nothing is encrypted.
package main

//go:generate sh generate.sh

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"watchword.example/search/watchword"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, `usage: search HOST:PORT "words"`)
		os.Exit(1)
	}
	if err := search(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func search(address, words string) error {
	transport := insecure.NewCredentials()
	if ca := os.Getenv("WATCHWORD_CA"); ca != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return err
		}
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return err
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if token := os.Getenv("WATCHWORD_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	var trailer metadata.MD
	question := &watchword.SearchRequest{Question: &watchword.SearchRequest_Text{Text: words}}
	reply, err := watchword.NewQueryClient(connection).Search(ctx, question, grpc.Trailer(&trailer))
	if err != nil {
		return told(err, trailer)
	}
	for _, hit := range reply.Hits {
		fmt.Printf("%.1f %%\t%s\t%s\t%s\t%s\t%s\n", 100*hit.Confidence, hit.Camera,
			at(hit.StartMs), at(hit.EndMs), hit.MomentId, cmp.Or(hit.Kind, "-"))
	}
	if reply.NoConfidentMatch {
		fmt.Fprintln(os.Stderr, "nothing matches with confidence; these are the nearest")
	}
	if coverage := reply.Coverage; coverage.Partial {
		fmt.Fprintf(os.Stderr, "incomplete: %d gaps; did not answer: %s\n", coverage.GapsInAll,
			cmp.Or(strings.Join(coverage.ShardsMissing, ", "), "none"))
	}
	return nil
}

// told is the error in the service's words, with its class where the service sent one.
func told(err error, trailer metadata.MD) error {
	kind := status.Code(err).String()
	if named := trailer.Get("watchword-error"); len(named) == 1 {
		if plain, bad := url.PathUnescape(named[0]); bad == nil {
			kind = plain
		}
	}
	return fmt.Errorf("%s: %s", kind, status.Convert(err).Message())
}

func at(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
