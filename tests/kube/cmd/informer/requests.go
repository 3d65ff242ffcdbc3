package main

import (
	"net/http"
	"strings"
	"sync"
)

// counts say by which requests the stores were filled.
type counts struct {
	// Lists are first pages.
	Lists int `json:"lists"`
	// Pages are the pages after the first.
	Pages int `json:"pages"`
	// Streams are watches that asked for the initial objects.
	Streams int `json:"streams"`
	// Watches are the others.
	Watches int `json:"watches"`
	// Protobuf and JSON are the answers of each content type.
	Protobuf int `json:"protobuf"`
	JSON     int `json:"json"`
	// Refused are the answers with a status of 400 or more, by status.
	Refused map[int]int `json:"refused"`
}

// requestLog counts the requests of an HTTP client.
type requestLog struct {
	mutex sync.Mutex
	sum   counts
}

// counts returns what was counted so far.
func (log *requestLog) counts() counts {
	log.mutex.Lock()
	defer log.mutex.Unlock()
	sum := log.sum
	sum.Refused = map[int]int{}
	for status, times := range log.sum.Refused {
		sum.Refused[status] = times
	}
	return sum
}

// around counts what passes through next.
func (log *requestLog) around(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		log.asked(request)
		response, err := next.RoundTrip(request)
		if err == nil {
			log.answered(response)
		}
		return response, err
	})
}

func (log *requestLog) asked(request *http.Request) {
	log.mutex.Lock()
	defer log.mutex.Unlock()
	query := request.URL.Query()
	switch {
	case query.Get("watch") == "true" && query.Get("sendInitialEvents") == "true":
		log.sum.Streams++
	case query.Get("watch") == "true":
		log.sum.Watches++
	case query.Has("continue"):
		log.sum.Pages++
	default:
		log.sum.Lists++
	}
}

func (log *requestLog) answered(response *http.Response) {
	log.mutex.Lock()
	defer log.mutex.Unlock()
	kind := response.Header.Get("Content-Type")
	switch {
	case response.StatusCode >= http.StatusBadRequest:
		if log.sum.Refused == nil {
			log.sum.Refused = map[int]int{}
		}
		log.sum.Refused[response.StatusCode]++
	case strings.HasPrefix(kind, protobuf):
		log.sum.Protobuf++
	case strings.HasPrefix(kind, "application/json"):
		log.sum.JSON++
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (trip roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	return trip(request)
}
