package dashboards

// process is the program and its disk.
func process() dashboard {
	return dashboard{
		name: "process", title: "Process and storage", description: "The program, its data directory, and the policy that runs.",
		rows: []row{
			{"Now", []panel{
				number("Up for", "s", "not scraped", "Since the youngest of the selected processes started.", `time() - max(process_start_time_seconds{$on})`),
				number("Policy", "short", "not scraped", "1: the files are what runs; 0: the last reload was refused.", `min(forebay_policy_last_reload_successful{$on})`).redBelow("1"),
				number("Policy loaded", "dateTimeFromNow", "not scraped", "When the running policy was loaded.", `1000 * max(forebay_policy_last_reload_success_timestamp_seconds{$on})`),
				number("Read only", "short", "not scraped", "1 while nothing is taken in, for want of disk space or because the buffer stopped.", `max(forebay_buffer_read_only{$on})`).redFrom("1"),
				number("Damaged blocks", "short", "not scraped", "Blocks found damaged since the start.", `sum(max_over_time(forebay_buffer_corrupt_blocks_total{$on}[$__rate_interval]))`).redFrom("1"),
				number("Certificate ends", "dateTimeFromNow", "no TLS", "When the first certificate of a listener expires.", `1000 * min(forebay_certificate_expiry_timestamp_seconds{$on})`),
			}},
			{"Storage", []panel{
				graph("Disk", "bytes", "What segments take, what is free on the volume, and what may come before intake is refused.",
					query{`sum by (instance) (forebay_buffer_size_bytes{$on})`, "{{instance}} segments"},
					query{`sum by (instance) (forebay_buffer_free_bytes{$on})`, "{{instance}} free"},
					query{`sum by (instance) (forebay_buffer_room_bytes{$on})`, "{{instance}} room"}),
				graph("Time to a full disk", "s", "When the disk takes no more if all streams grow as in the last minute or two; nothing where that is not within a week.",
					query{`min by (instance) (forebay_buffer_full_timestamp_seconds{$on} - time() < 604800)`, "{{instance}}"}),
				graph("Segments", "short", "open: written or about to be sealed.",
					query{`sum by (instance, state) (forebay_buffer_segments{$on})`, "{{instance}} {{state}}"}).stacked(),
				graph("Commit", "s", "How long one commit takes, written and fsynced.",
					query{`histogram_quantile(0.99, sum by (instance, le) (rate(forebay_buffer_sync_duration_seconds_bucket{$on}[$__rate_interval])))`, "{{instance}} p99"},
					query{`histogram_quantile(0.5, sum by (instance, le) (rate(forebay_buffer_sync_duration_seconds_bucket{$on}[$__rate_interval])))`, "{{instance}} p50"}),
				graph("Messages in a commit", "short", "Mean of the messages that one fsync made durable: it rises with the load.",
					query{`sum by (instance) (rate(forebay_buffer_commit_messages_sum{$on}[$__rate_interval])) / (sum by (instance) (rate(forebay_buffer_commit_messages_count{$on}[$__rate_interval])) > 0)`, "{{instance}}"}),
				graph("Reads and stalls", "ops", "Blocks read from disk because they were not in memory, and commits that took over 2 s.",
					query{`sum by (instance) (rate(forebay_buffer_read_blocks_total{$on}[$__rate_interval]))`, "{{instance}} blocks read"},
					query{`sum by (instance) (rate(forebay_buffer_stalled_commits_total{$on}[$__rate_interval]))`, "{{instance}} stalled commits"}),
			}},
			{"Process", []panel{
				graph("Processor", "percentunit", "Processor time; 100 % is one core.",
					query{`sum by (instance) (rate(process_cpu_seconds_total{$on}[$__rate_interval]))`, "{{instance}}"}),
				graph("Memory", "bytes", "Resident memory, mapped files included, and the heap alone.",
					query{`sum by (instance) (process_resident_memory_bytes{$on})`, "{{instance}} resident"},
					query{`sum by (instance) (go_memstats_heap_inuse_bytes{$on})`, "{{instance}} heap"}),
				graph("Open files", "percentunit", "File descriptors in use, of those that may be; connections are most of them.",
					query{`max by (instance) (process_open_fds{$on} / process_max_fds{$on})`, "{{instance}}"}),
				graph("Goroutines", "short", "A number that only ever rises is a leak.",
					query{`sum by (instance) (go_goroutines{$on})`, "{{instance}}"}),
				graph("Collector", "s", "The longest pauses of the garbage collector.",
					query{`max by (instance) (go_gc_duration_seconds{$on,quantile="1"})`, "{{instance}}"}),
				graph("Scrape", "s", "How long Prometheus takes to scrape each instance.",
					query{`max by (instance) (scrape_duration_seconds{$on})`, "{{instance}}"}),
			}},
			{"Policy and calendar", []panel{
				graph("Reloads", "short", "Loads of the policy by how they ended.",
					query{`sum by (instance, result) (increase(forebay_policy_reloads_total{$on}[$__rate_interval]))`, "{{instance}} {{result}}"}),
				graph("Time to the next edge", "s", "When each time interval begins or ends next; nothing where that is not within 400 days.",
					query{`min by (interval) ((forebay_time_interval_next_change_timestamp_seconds{$on} < +Inf) - time())`, "{{interval}}"}),
				list("Programs and policies", "short", "Which program and which policy each instance runs.",
					query{`sum by (instance, version, revision, goversion) (forebay_build_info{$on})`, ""},
					query{`sum by (instance, hash) (forebay_policy_info{$on})`, ""}),
			}},
		},
	}
}
