// Drives a hub with GitHub's own scale set client and its listener, unchanged.
//
// Usage: scale-set-client URL JOBS, where URL is that of a repository or an organization; the first line of the standard
// input is a token. What happens is told on the standard output, one JSON object a line: what was found to
// hold, the registrations that a runner is to be started with, the jobs. It ends when JOBS jobs are over and
// nothing of it is left.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/actions/scaleset"
	"github.com/actions/scaleset/listener"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func tell(what string, value any) {
	line, err := json.Marshal(map[string]any{what: value})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func run(ctx context.Context) error {
	if len(os.Args) != 3 {
		return errors.New("usage: scale-set-client URL JOBS < TOKEN")
	}
	jobs, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	input := bufio.NewScanner(os.Stdin)
	if !input.Scan() {
		return errors.New("no token on the standard input")
	}
	client, err := scaleset.NewClientWithPersonalAccessToken(scaleset.NewClientWithPersonalAccessTokenConfig{
		GitHubConfigURL:     os.Args[1],
		PersonalAccessToken: input.Text(),
		SystemInfo:          scaleset.SystemInfo{System: "test", Version: "1", CommitSHA: "0", Subsystem: "listener"},
	})
	if err != nil {
		return err
	}
	set, err := makeSet(ctx, client)
	if err != nil {
		return err
	}
	if err := listen(ctx, client, set.ID, jobs); err != nil {
		return err
	}
	if err := client.DeleteRunnerScaleSet(ctx, set.ID); err != nil {
		return err
	}
	gone, err := client.GetRunnerScaleSet(ctx, set.RunnerGroupID, set.Name)
	if err != nil {
		return err
	}
	tell("held", map[string]bool{"a set that was deleted is gone": gone == nil})
	return nil
}

// A set: made, refused a second time, read in both ways, changed.
func makeSet(ctx context.Context, client *scaleset.Client) (*scaleset.RunnerScaleSet, error) {
	group, err := client.GetRunnerGroupByName(ctx, "Default")
	if err != nil {
		return nil, err
	}
	wanted := &scaleset.RunnerScaleSet{
		Name:          "gpu",
		RunnerGroupID: group.ID,
		Labels:        []scaleset.Label{{Name: "gpu", Type: "User"}},
		RunnerSetting: scaleset.RunnerSetting{DisableUpdate: true},
	}
	set, err := client.CreateRunnerScaleSet(ctx, wanted)
	if err != nil {
		return nil, err
	}
	_, again := client.CreateRunnerScaleSet(ctx, wanted)
	byName, err := client.GetRunnerScaleSet(ctx, group.ID, "gpu")
	if err != nil {
		return nil, err
	}
	byID, err := client.GetRunnerScaleSetByID(ctx, set.ID)
	if err != nil {
		return nil, err
	}
	changed, err := client.UpdateRunnerScaleSet(ctx, set.ID, &scaleset.RunnerScaleSet{
		Name:          "gpu",
		RunnerGroupID: group.ID,
		Labels:        []scaleset.Label{{Name: "gpu", Type: "User"}, {Name: "large", Type: "User"}},
	})
	if err != nil {
		return nil, err
	}
	tell("held", map[string]bool{
		"a name that is taken is refused": again != nil,
		"a set is found by its name":      byName != nil && byName.ID == set.ID,
		"a set is found by its number":    byID != nil && byID.Name == "gpu",
		"a set gets other labels":         len(changed.Labels) == 2 && changed.Labels[1].Name == "large",
	})
	return set, nil
}

// What the listener calls.
type scaler struct {
	client *scaleset.Client
	set    int
	made   int
	left   int
	over   int
	stop   context.CancelFunc
}

func (s *scaler) HandleDesiredRunnerCount(ctx context.Context, count int) (int, error) {
	tell("desired", count)
	// It counts the jobs that are not over; a runner takes one.
	for ; s.made < s.over+count; s.made++ {
		name := fmt.Sprintf("gpu-%d", s.made)
		setting := &scaleset.RunnerScaleSetJitRunnerSetting{Name: name, WorkFolder: "_work"}
		jit, err := s.client.GenerateJitRunnerConfig(ctx, setting, s.set)
		if err != nil {
			return 0, err
		}
		tell("runner", map[string]string{"name": jit.Runner.Name, "jit": jit.EncodedJITConfig})
		if s.made > 0 {
			continue
		}
		_, again := s.client.GenerateJitRunnerConfig(ctx, setting, s.set)
		known, err := s.client.GetRunnerByName(ctx, name)
		if err != nil {
			return 0, err
		}
		tell("held", map[string]bool{
			"a runner's name that is taken is refused": errors.Is(again, scaleset.RunnerExistsError),
			"a runner is found by its name":            known != nil && known.ID == jit.Runner.ID,
		})
	}
	return s.made, nil
}

func (s *scaler) HandleJobStarted(_ context.Context, job *scaleset.JobStarted) error {
	tell("started", map[string]string{"runner": job.RunnerName, "job": job.JobDisplayName})
	return nil
}

func (s *scaler) HandleJobCompleted(_ context.Context, job *scaleset.JobCompleted) error {
	tell("completed", map[string]string{"runner": job.RunnerName, "job": job.JobDisplayName, "result": job.Result})
	s.over++
	if s.left--; s.left == 0 {
		s.stop()
	}
	return nil
}

func listen(ctx context.Context, client *scaleset.Client, set, jobs int) error {
	session, err := client.MessageSessionClient(ctx, set, "first")
	if err != nil {
		return err
	}
	_, second := client.MessageSessionClient(ctx, set, "second")
	tell("held", map[string]bool{"a second session is refused": second != nil})
	listening, err := listener.New(session, listener.Config{ScaleSetID: set, MaxRunners: 2})
	if err != nil {
		return err
	}
	untilDone, stop := context.WithCancel(ctx)
	defer stop()
	err = listening.Run(untilDone, &scaler{client: client, set: set, left: jobs, stop: stop})
	if !errors.Is(err, context.Canceled) {
		return err
	}
	return session.Close(ctx)
}
