// Command kubernetes writes the descriptor set by which the synthetic API server speaks Kubernetes protobuf.
//
//	cd proto/kubernetes && go run . ../kubernetes-descriptors.bin.gz
//
// The messages come from the generated.proto files of k8s.io/api and k8s.io/apimachinery. What those do not
// say, how a field looks in JSON, comes from the tags of the Go structs and is put into each field: its JSON
// name, and the options that options.proto defines.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscaling "k8s.io/api/autoscaling/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Numbers of the options in options.proto.
const (
	inline   = 50600
	keepZero = 50601
)

var files = []string{
	"options.proto",
	"k8s.io/api/core/v1/generated.proto",
	"k8s.io/api/discovery/v1/generated.proto",
	"k8s.io/api/apps/v1/generated.proto",
	"k8s.io/api/coordination/v1/generated.proto",
	"k8s.io/api/authentication/v1/generated.proto",
	"k8s.io/api/authorization/v1/generated.proto",
	"k8s.io/api/autoscaling/v1/generated.proto",
}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: kubernetes FILE"))
	}
	set, err := compile()
	fail(err)
	types := goTypes()
	for _, file := range set.File {
		file.SourceCodeInfo = nil
		for _, message := range file.MessageType {
			annotate(message, types[file.GetPackage()+"."+message.GetName()])
		}
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	fail(err)
	var out bytes.Buffer
	writer, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	fail(err)
	_, err = writer.Write(encoded)
	fail(err)
	fail(writer.Close())
	fail(os.WriteFile(os.Args[1], out.Bytes(), 0o644))
}

// compile resolves the files and their imports from the modules' sources; imports come first.
func compile() (*descriptorpb.FileDescriptorSet, error) {
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open}),
	}
	compiled, err := compiler.Compile(context.Background(), files...)
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	for _, file := range compiled {
		add(file)
	}
	return set, nil
}

// open finds a file of a module by its import path.
func open(path string) (io.ReadCloser, error) {
	if path == "options.proto" {
		return os.Open(path)
	}
	parts := strings.SplitN(path, "/", 3)
	if len(parts) < 3 || parts[0] != "k8s.io" {
		return nil, os.ErrNotExist
	}
	module := parts[0] + "/" + parts[1]
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", module, err)
	}
	return os.Open(filepath.Join(strings.TrimSpace(string(dir)), parts[2]))
}

// goTypes are the Go types reachable from the kinds of the packages, by the full name of their message.
func goTypes() map[string]reflect.Type {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, discovery.AddToScheme, apps.AddToScheme, coordination.AddToScheme,
		authentication.AddToScheme, authorization.AddToScheme, autoscaling.AddToScheme, meta.AddMetaToScheme,
	} {
		fail(add(scheme))
	}
	types := map[string]reflect.Type{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			walk(t.Elem())
		case reflect.Map:
			walk(t.Key())
			walk(t.Elem())
		case reflect.Struct:
			name := strings.ReplaceAll(t.PkgPath(), "/", ".") + "." + t.Name()
			if _, known := types[name]; known {
				return
			}
			types[name] = t
			for i := range t.NumField() {
				walk(t.Field(i).Type)
			}
		}
	}
	for _, t := range scheme.AllKnownTypes() {
		walk(t)
	}
	for _, object := range []any{
		meta.Status{}, meta.WatchEvent{}, meta.PartialObjectMetadata{}, meta.PartialObjectMetadataList{},
		meta.APIVersions{}, meta.APIGroup{}, meta.APIGroupList{}, meta.APIResourceList{},
	} {
		walk(reflect.TypeOf(object))
	}
	return types
}

// annotate writes what the struct's tags say of JSON into the message's fields.
func annotate(message *descriptorpb.DescriptorProto, t reflect.Type) {
	if t == nil || t.Kind() != reflect.Struct {
		return
	}
	for i := range t.NumField() {
		field := t.Field(i)
		number, err := strconv.Atoi(strings.Split(field.Tag.Get("protobuf")+",,", ",")[1])
		if err != nil {
			continue
		}
		json, found := field.Tag.Lookup("json")
		if !found {
			continue
		}
		tag := strings.Split(json, ",")
		for _, f := range message.Field {
			if f.GetNumber() != int32(number) {
				continue
			}
			if tag[0] == "" {
				set(f, inline)
				continue
			}
			f.JsonName = &tag[0]
			if field.Type.Kind() == reflect.Pointer || !slices.Contains(tag[1:], "omitempty") {
				set(f, keepZero)
			}
		}
	}
}

func set(field *descriptorpb.FieldDescriptorProto, option protowire.Number) {
	if field.Options == nil {
		field.Options = &descriptorpb.FieldOptions{}
	}
	reflected := field.Options.ProtoReflect()
	raw := protowire.AppendTag(reflected.GetUnknown(), option, protowire.VarintType)
	reflected.SetUnknown(protowire.AppendVarint(raw, 1))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}
