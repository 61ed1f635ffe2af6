// Kstatus reads objects of Kubernetes, one JSON document after the other, and says of each what Helm, Flux and
// other tools that wait for it make of it: InProgress, Current, Failed, Terminating or Unknown, and why.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	objects := json.NewDecoder(os.Stdin)
	for {
		object := map[string]any{}
		err := objects.Decode(&object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = say(object)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func say(object map[string]any) error {
	result, err := status.Compute(&unstructured.Unstructured{Object: numbers(object).(map[string]any)})
	if err != nil {
		return err
	}
	fmt.Printf("%s\t%s\n", result.Status, result.Message)
	return nil
}

// The library reads whole numbers, JSON has none.
func numbers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, of := range value {
			value[key] = numbers(of)
		}
	case []any:
		for n, of := range value {
			value[n] = numbers(of)
		}
	case float64:
		if whole := int64(value); float64(whole) == value {
			return whole
		}
	}
	return value
}
