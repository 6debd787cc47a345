internal import HTTPServer
internal import HTTPTypes
private import LinuxSupport
internal import Reports

extension Route {
    /// `/metrics`, in Prometheus' text format.
    static let metrics = Route(["metrics"], mediaType: "text/plain") { snapshot, _, services in
        let text = snapshot.metrics(recording: services.recording(), version: services.version)
        return EndpointResponse(
            status: .ok, contentType: "text/plain; version=0.0.4; charset=utf-8", body: Array((text + process).utf8))
    }

    /// Under the names that Prometheus' own clients give such figures.
    private static var process: String {
        guard let figures = ProcessFigures.current() else { return "" }
        return """
            # HELP process_cpu_seconds_total Processor time of all threads, in seconds.
            # TYPE process_cpu_seconds_total counter
            process_cpu_seconds_total \(figures.processorSeconds)
            # HELP process_resident_memory_bytes Memory in use.
            # TYPE process_resident_memory_bytes gauge
            process_resident_memory_bytes \(figures.residentMemory)
            # HELP process_open_fds Open file descriptors.
            # TYPE process_open_fds gauge
            process_open_fds \(figures.openDescriptors)
            # HELP process_max_fds The most file descriptors that may be open.
            # TYPE process_max_fds gauge
            process_max_fds \(figures.descriptorLimit)
            # HELP process_start_time_seconds When the process began, in seconds since 1970.
            # TYPE process_start_time_seconds gauge
            process_start_time_seconds \(figures.startedAt)

            """
    }
}
